"""A file in the place of an entry: `find_entry` takes the name of an entry or the path of a checkpoint.

A checkpoint whose card lies beside it is that entry. Another one, as `zoo convert` writes it, gets a card with what
follows from the file: the network, its cost, and the data set if the file or its name says it. Nothing was measured.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo import checkpoint, store
from zoo.cards import NO_PARENT, UNKNOWN, Card, File, Licences, Value, parse_name
from zoo.datasets import dataset_info, list_datasets
from zoo.errors import ZooError
from zoo.evaluate import Counts, count
from zoo.models import widths_of
from zoo.utils import sha256_of

_SHAPES = ((3, 1024), (3, 224, 224))  # of a cloud and of an image, where no data set says it
_HASHED = re.compile(r"(.+)-[0-9a-f]{8}")


def find_entry(
    name: str | os.PathLike[str], *, mirror: str | os.PathLike[str] | Sequence[str] | None = None,
    dataset: str | None = None,
) -> tuple[Path, Card]:  # fmt: skip
    """The checkpoint and the card of an entry by name (`zoo.store.fetch`), or of a checkpoint by path.

    dataset  what the network was trained on, where neither file nor card says it

    Raises ZooError for an unknown entry, and for a path without a checkpoint of the zoo: it says how to convert one.
    """
    if store.is_path(name):
        path, found = store.checkpoint_at(name)
        card = found or card_of_file(path)
    else:
        path, card = store.fetch(str(name), mirror=mirror)
    if card.dataset != UNKNOWN or dataset is None:
        return path, card
    classes = dataset_info(dataset).num_classes
    if classes not in (None, card.num_classes):
        raise ZooError(f"{card.name} tells {card.num_classes} classes apart, but {dataset} has {classes}")
    return path, replace(card, dataset=dataset)


def load_entry(
    name: str | os.PathLike[str], *, mirror: str | os.PathLike[str] | Sequence[str] | None = None,
    device: str | torch.device = "cpu",
) -> tuple[nn.Module, Card]:  # fmt: skip
    """The network and the card of an entry or of a checkpoint (`find_entry`), which belong together whatever other
    processes write meanwhile. Raises ZooError as `find_entry` and `zoo.checkpoint.load`."""
    return store.reading(
        lambda: find_entry(name, mirror=mirror), lambda path, card: (checkpoint.load(path, device=device), card)
    )


def typed_name(name: str | os.PathLike[str], card: Card) -> str:
    """The words for an entry in a command: its name, or for a file the path in the folder where it lies."""
    return f"./{Path(name).name}" if store.is_path(name) else card.name


def card_of_file(path: Path) -> Card:
    """The card of a checkpoint that has none, called after the file."""
    header = checkpoint.read_header(path)
    model = checkpoint.load(path)
    arch, classes, dataset = header["arch"], header["num_classes"], header.get("dataset")
    name = _name(path)
    said = parse_name(name).dataset
    if said in list_datasets():
        suits = dataset in (None, said) and dataset_info(said).num_classes in (None, classes)
        dataset, name = (said, name) if suits else (dataset, f"{parse_name(name).stem}-{said}")
    recipe: dict[str, Value] = {"command": f"zoo convert WEIGHTS --arch {arch} -o {path.name}"}
    size, sha256 = path.stat().st_size, sha256_of(path)
    return described_network(model, name, arch, classes, header["options"], dataset, size, sha256, recipe)


def described_network(
    model: nn.Module, name: str, arch: str, num_classes: int, options: Mapping[str, Any], dataset: str | None,
    size: int, sha256: str, recipe: Mapping[str, Value],
) -> Card:  # fmt: skip
    """The card of a network of which nothing is measured, with the size and the SHA-256 of its checkpoint."""
    shape, counts = _cost(model, dataset)
    terms = dataset_info(dataset).terms if dataset in list_datasets() else UNKNOWN
    return Card(
        name=name,
        arch=arch,
        dataset=dataset or UNKNOWN,
        num_classes=num_classes,
        sample_shape=shape,
        options=dict(options),
        widths=widths_of(model),
        recipe=dict(recipe),
        parameters=counts.parameters,
        macs=counts.macs,
        macs_paper=counts.macs_paper,
        file=File(name=f"{name}-{sha256[:8]}.safetensors", size=size, sha256=sha256),
        licences=Licences(code="Apache-2.0", weights=UNKNOWN, data=terms, parent=NO_PARENT),
    )


def _cost(model: nn.Module, dataset: str | None) -> tuple[tuple[int, ...], Counts]:
    """The shape of one sample, that of the data set or else of the first kind that runs, and the cost for it."""
    rows = next((module.in_features for module in model.modules() if isinstance(module, nn.Linear)), 1)
    known = dataset_info(dataset).sample_shape if dataset in list_datasets() else ()  # () of a folder of one's own too
    shapes = [known] if known else [*_SHAPES, (rows,)]
    for shape in shapes:
        try:
            return shape, count(model, shape)
        except (RuntimeError, ValueError, IndexError):  # of a layer that takes inputs of another shape
            continue
    if dataset:
        raise ZooError(
            f"samples of {dataset} ({' x '.join(map(str, shapes[0]))}) do not fit {type(model).__name__}: "
            "name the data set that it was trained on"
        )
    raise ZooError(f"{type(model).__name__} runs on none of the shapes {shapes}: say its `dataset` when converting")


def _name(path: Path) -> str:
    """The file's name as a name of an entry."""
    stem = match[1] if (match := _HASHED.fullmatch(path.stem)) else path.stem
    text = re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9._-]+", "-", stem.lower())).lstrip("._-")[:100]
    for name in (text, text.rstrip(".-_").replace(".", "-")):  # ema.bin would end as a file of weights does
        with suppress(ZooError):
            return str(parse_name(name))
    return "weights"
