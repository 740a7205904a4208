"""Converting weights of other programs, pickled files among them, to the zoo's checkpoints.

No code from such a file runs. The caller names the network; its classes and widths follow from the weights' shapes.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from zoo import checkpoint, display, models, store
from zoo.cards import MAX_CLASSES, parse_name
from zoo.checkpoint import FoundWeights
from zoo.datasets import dataset_info, list_datasets
from zoo.errors import ZooError, first_line, suggest
from zoo.export_targets import check_new_checkpoint
from zoo.file_entry import described_network
from zoo.models import groups_of
from zoo.utils import new_file, sha256_of

# Arguments of a builder, beside classes and widths, that the shapes determine. DGCNN's k, which they do not, stays 20.
_OPTIONS: dict[str, Callable[[Mapping[str, Tensor]], dict[str, Any]]] = {
    "mlp": lambda state: {"in_features": _size(state, "hidden1.weight", 1)} if "hidden1.weight" in state else {},
    "vgg11": lambda state: {"head": "full" if "classifier.6.weight" in state else "linear"},
}


_MAX_NAME = 200  # letters of the name of a tensor that are shown
_MAX_MISFITS = 3  # names that are shown of each side; where no more differ, the first one is named with its shape


@dataclass(frozen=True)
class ConversionResult:
    """A checkpoint that was written, and what the shapes of the weights say about the network.

    `dense` has the widths of the dense network, for comparison with `widths`; `key` is the one in the file that the
    weights were found under, and `other_keys` those that hold others; `name` is that of the new entry, where one was
    made, and `path` its checkpoint.
    """

    source: Path
    path: Path
    arch: str
    num_classes: int
    options: dict[str, Any]
    widths: dict[str, int]
    dense: dict[str, int]
    parameters: int
    size: int
    sha256: str
    key: str = ""
    other_keys: tuple[str, ...] = ()
    name: str | None = None
    dataset: str | None = None

    def table(self) -> str:
        """The network, the groups that are narrower than in the dense network, and the file with its SHA-256."""
        options = ", ".join(f"{name} {value}" for name, value in self.options.items())
        narrow = [f"{name} {n} of {self.dense[name]}" for name, n in self.widths.items() if n != self.dense[name]]
        others = f"; --key {' or --key '.join(self.other_keys)} takes the others" if self.other_keys else ""
        name = self.name or shlex.quote(str(self.path if "/" in str(self.path) else f"./{self.path}"))
        data = "" if self.dataset else " --dataset DATASET"
        rows = [
            ("network", f"{self.arch}{f' ({options})' if options else ''}"),
            ("classes", str(self.num_classes)),
            ("widths", ", ".join(narrow) or "those of the dense network"),
            ("parameters", str(self.parameters)),
            *([("weights", f"those under the key {self.key}{others}")] if self.key else []),
            *([("data set", self.dataset)] if self.dataset else []),
            *([("entry", self.name)] if self.name else []),
            ("file", str(self.path)),
            ("size", f"{self.size} bytes"),
            ("SHA-256", self.sha256),
            ("next", f"zoo info {name}"),
            ("", f"zoo eval {name}{data}"),
        ]
        return display.table(rows)

    def to_dict(self) -> dict[str, Any]:
        fields = {**vars(self), "source": str(self.source), "path": str(self.path)}
        del fields["dense"]
        return {**fields, "other_keys": list(self.other_keys)}


def convert(
    source: str | Path, *, arch: str, out: str | Path | None = None, num_classes: int | None = None,
    key: str | None = None, dataset: str | None = None, add: str | None = None, overwrite: bool = False,
) -> ConversionResult:  # fmt: skip
    """Write the weights of a file as a checkpoint that takes the place of an entry's name, or as an entry.

    source       what `zoo.checkpoint.read_weights_file` reads: a file of torch.save or of safetensors by any name, or
                 the index of several
    out          a file ending in .safetensors, which appears complete or not at all
    num_classes  by default the number of rows of the last layer
    key          the key in the file that the weights lie under, where there are several
    dataset      the data set that the weights were trained on, for `zoo eval` and others to take by default
    add          the name of a new entry in the user's zoo; a data set in it (``mine.modelnet40``) is meant as `dataset`

    The width of a group is the number of rows of its first writer. The file must have exactly the tensors of the
    network. Weights of the DGCNN authors' code are renamed.

    Raises ZooError for an unknown network or data set, a missing file, a file without weights or with code, weights
    that do not fit (with names of both sides and the network that they are of, or the first tensor), numbers that are
    not finite, and an `out` or a name that is taken, unless `overwrite` is set, or cannot be written.
    """
    source = Path(source).expanduser()
    if arch not in models.ARCHS:
        raise ZooError(f"there is no network {arch!r}: {suggest(arch, models.ARCHS)}")
    if num_classes is not None and num_classes < 1:
        raise ZooError(f"{num_classes} classes are too few: give 1 or more, or leave `num_classes` out")
    if num_classes is not None:
        _check_not_too_many(num_classes)
    path = check_new_checkpoint(out, add, overwrite=overwrite)
    said = parse_name(add).dataset if add else None
    dataset = dataset or (said if said in list_datasets() else None)
    known = dataset_info(dataset).num_classes if dataset else None
    found = read_weights(source, arch, key=key)
    state = found.state
    options = _OPTIONS[arch](state) if arch in _OPTIONS else {}
    dense = _dense(arch, state)
    classes = _size(state, f"{_last_layer(dense)[0]}.weight", 0) if num_classes is None else num_classes
    _check_not_too_many(classes)
    if known not in (None, classes):
        raise ZooError(f"{source} tells {classes} classes apart, but {dataset} has {known}: name another data set")
    widths = _widths(dense, state)
    with torch.device("meta"):  # no memory follows the shapes before it is known that there are so many numbers
        checkpoint.check_fit(
            models.build(arch, num_classes=classes, widths=widths, **options), state, source=str(source)
        )
    checkpoint.check_dense_size(arch, classes, options, state, source=str(source))
    model = models.build(arch, num_classes=classes, widths=widths, **options)
    checkpoint.load_weights(model, state, source=str(source))
    data = checkpoint.pack(model, arch=arch, num_classes=classes, options=options, dataset=dataset)
    result = ConversionResult(
        source, path or Path(), arch, classes, options, models.widths_of(model), models.widths_of(dense),
        sum(parameter.numel() for parameter in model.parameters()), len(data), hashlib.sha256(data).hexdigest(),
        found.key, found.others, add, dataset,
    )  # fmt: skip

    def write(file: BinaryIO) -> None:
        file.write(data)

    words = ["zoo", "convert", source.name, "--arch", arch, *(["--key", key] if key else [])]
    words += [*(["--dataset", dataset] if dataset else []), "--add", add or ""]
    recipe = {"command": shlex.join(words), "weights": source.name, "weights_sha256": sha256_of(source)}
    if dataset or add:  # checks that the samples of the data set fit
        size, sha256 = result.size, result.sha256
        card = described_network(model, add or arch, arch, classes, options, dataset, size, sha256, recipe)
    if path is not None:
        with new_file(path) as file:
            write(file)
    if add is None:
        return result
    store.write_entry(card, store.user_dir(), write, overwrite=overwrite)
    return replace(result, path=path or store.user_dir() / card.saved.name)


def read_weights(path: Path, arch: str, *, key: str | None = None) -> FoundWeights:
    """The weights of a file (`zoo.checkpoint.read_weights_file`) under their names in the zoo's network.

    Raises ZooError as `read_weights_file` does, and for names that are not those of the network: three of each side,
    and the network that they are of.
    """
    expected = _names(_dense(arch, {}))
    found = checkpoint.read_weights_file(path, key=key, expected=expected)
    state = _renamed(arch, found.state)
    _check_names(path, arch, state, _dense(arch, state), found.remark)
    return replace(found, state=state)


def _renamed(arch: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under their names in the zoo's network."""
    if arch == "dgcnn" and "conv1.0.weight" in state:
        return models.from_authors(state)
    return state


def _dense(arch: str, state: Mapping[str, Tensor]) -> nn.Module:
    """The dense network with the options that the weights' shapes determine, without memory for its weights."""
    options = _OPTIONS[arch](state) if arch in _OPTIONS else {}
    try:
        with torch.device("meta"):
            return models.build(arch, **options)
    except (RuntimeError, ArithmeticError) as error:  # of more numbers than torch can count
        raise ZooError(f"no {arch} can be built with {options}: {first_line(error)}") from error


def _names(network: nn.Module) -> set[str]:
    return {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}


def _check_names(path: Path, arch: str, state: Mapping[str, Tensor], dense: nn.Module, remark: str) -> None:
    """Raise ZooError where many names, or that of the last layer, are not those of the network."""
    expected, names = _names(dense), {name for name in state if not name.endswith("num_batches_tracked")}
    last = f"{_last_layer(dense)[0]}.weight"
    missing, more = sorted(expected - names), sorted(names - expected)
    if max(len(missing), len(more)) <= _MAX_MISFITS and last not in missing:
        return
    here = f"it has {_some(more)}, which {arch} has not" if more else f"all that it has is of {arch}"
    there = f"{arch} needs {_some(missing)}, which it has not" if missing else "and nothing is missing"
    closest, share = max(
        ((other, _share(state, other)) for other in models.ARCHS), key=lambda item: (item[1], item[0] == arch)
    )
    if closest != arch and share > 0.5:
        fits = "all names fit" if share == 1 else f"{share:.0%} of all names fit"
        advice = f"the closest network is {closest} ({fits}): that is `arch={closest}`"
    elif share > 0.5:
        advice = f"{arch} is the closest network all the same, so that the file is of another variant of it"
    else:
        advice = f"no network of the zoo has such names; the closest is {closest} ({share:.0%} of all names fit)"
    advice += f"; {remark}" if remark else ""
    raise ZooError(f"the weights of {path} do not fit {arch}: {here}; {there}; {advice}")


def _some(names: list[str]) -> str:
    shown, more = ", ".join(name[:_MAX_NAME] for name in names[:_MAX_MISFITS]), len(names) - _MAX_MISFITS
    return f"{shown} and {more} more" if more > 0 else shown


def _share(state: Mapping[str, Tensor], arch: str) -> float:
    """The part of all names, those of the weights and those of a network, that both have."""
    try:
        renamed = _renamed(arch, dict(state))
        expected = _names(_dense(arch, renamed))
    except (ZooError, ImportError, TypeError, ValueError):  # of an architecture that is somebody's, too
        return 0.0
    names = {name for name in renamed if not name.endswith("num_batches_tracked")}
    return len(names & expected) / len(names | expected)


def _check_not_too_many(classes: int) -> None:
    if classes > (most := MAX_CLASSES):
        raise ZooError(f"{classes} classes are too many: give {most} at most, or leave `num_classes` out")


def _last_layer(network: nn.Module) -> tuple[str, nn.Linear]:
    """The last linear layer, with its name."""
    return [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]


def _widths(dense: nn.Module, state: Mapping[str, Tensor]) -> dict[str, int]:
    """Group -> number of rows of its first writer, for the groups whose first writer is in the file."""
    names = {module: name for name, module in dense.named_modules()}
    weights = {group.name: f"{names[group.writers[0]]}.weight" for group in groups_of(dense)}
    return {group: _size(state, weight, 0) for group, weight in weights.items() if weight in state}


def _size(state: Mapping[str, Tensor], name: str, axis: int) -> int:
    """The size along an axis of a tensor that must be a layer's weight."""
    shape = state[name].shape
    if len(shape) < 2 or 0 in shape:
        raise ZooError(f"{name} has the shape {list(shape)} in the file: a layer's weight has rows and columns")
    return shape[axis]
