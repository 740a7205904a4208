"""From the name of a network, or of an entry, to a trained entry in the user's zoo."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from zoo import checkpoint, distributed, models, store
from zoo.cards import Card, Value, parse_name
from zoo.datasets import LabelledDataset
from zoo.errors import ZooError, suggest
from zoo.train import Recipe, read_recipe, recipe_for, train
from zoo.utils import check_seed
from zoo.workflows.entry import (
    Data,
    Made,
    Run,
    check_name,
    check_out,
    choose_device,
    command_line,
    fitting,
    halved,
    held_for_halving,
    make_card,
    measure,
    run_folder,
    same_classes,
    save,
    time_beside,
    warn_of_seen,
)

_LOG = logging.getLogger("zoo")


def train_entry(
    arch: str, data: Data, *, recipe: Path | None = None, changes: Mapping[str, Any] | None = None, width: float = 1.0,
    half: bool = False, seed: int = 0, run: Run,
) -> Made:  # fmt: skip
    """Train a network from its initial weights, evaluate it once on the test split, and save it as an entry.

    `recipe` is a file that takes the place of the network's own (`zoo.train.recipe`); `changes` replace numbers of it. With
    `width` below 1 it is the dense network with that width multiplier. With `half` the weights are stored in half
    precision where that changes no decision (`zoo.half_precision`). The entry is called `<arch>[-<width>x].<dataset>` if `run`
    gives no name.

    Raises ZooError for an unknown network or data set, a name that another entry has, and as `zoo.train.train`.
    """
    if arch not in models.ARCHS:
        raise ZooError(f"there is no network {arch!r}: {suggest(arch, models.ARCHS)}")
    check_seed(seed)
    base, settings = _settings("train", arch, data, recipe, changes)
    device = choose_device(run.device)
    train_set, test_set = data.load("train", augment=True), data.load("test")
    held = held_for_halving(data) if half else None
    options = _options(data, train_set, base, settings, seed, width=None if width == 1 else width)
    extra: dict[str, Value] = {"recipe": str(recipe) if recipe else None, "half": half or None}
    command = command_line("train", arch, {**options, **extra, "name": run.name})
    identity = {"arch": arch, **options, "device": device.type, **({"recipe": str(recipe)} if recipe else {})}
    name = run.name or f"{arch}{'' if width == 1 else f'-{width:g}x'}.{data.dataset}"
    check_out(run.out)
    overwrite = check_name(name, command, run.out, overwrite=run.overwrite)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = models.scaled_widths(arch, width, num_classes=train_set.num_classes)
        model = models.build(arch, num_classes=train_set.num_classes, widths=widths).to(device)
    fitting(model, train_set)
    with run_folder("train", identity, resume=run.resume) as folder:
        state, log = folder / "train.pt", run.log
        train(
            model, train_set, settings, seed=seed, checkpoint=state, log=log, workers=run.workers,
            progress=run.progress, validation=test_set if data.validation else None,
        )  # fmt: skip
        float16 = halved(model, held, run)
        measured = measure(model, test_set, workers=run.workers, progress=run.progress)
        made = {"command": command, "device": device.type, "torch": torch.__version__}
        noted = {**made, **options, **vars(settings), **extra}

        def card() -> Card:
            return make_card(name, model, measured, test_set, arch=arch, data=data, recipe=noted)

        return Made(save(model, card, run.out, overwrite=overwrite, float16=float16))


def finetune_entry(
    name: str, *, recipe: Path | None = None, changes: Mapping[str, Any] | None = None, half: bool = False,
    seed: int = 0, run: Run, **given: Any,
) -> Made:  # fmt: skip
    """Train an entry on from its weights with its fine-tuning recipe, and save the result as another entry.

    `given` are fields of `Data` that take the place of the card's. The new entry is called
    `<stem>-finetuned.<dataset>` if `run` gives no name. Its parent on the card, with which accuracy and speed are
    compared and from whose outputs it learns where the recipe distils, is that of the entry: for a pruned network the
    one that it was pruned from. An entry without a parent, or whose parent is not here, stands for it itself.

    Raises ZooError as `train_entry`, for a data set with another number of classes, and for a recipe that distils where
    there is no parent.
    """
    device = choose_device(run.device)
    here, entry = store.fetch(name)
    data = Data.of(entry, **given)
    check_seed(seed)
    base, settings = _settings("finetune", entry.arch, data, recipe, changes)
    train_set, test_set = data.load("train", augment=True), data.load("test")
    warn_of_seen(entry, data)
    held = held_for_halving(data) if half else None
    same_classes(entry.name, entry.num_classes, data.dataset, train_set.num_classes)
    options = _options(data, train_set, base, settings, seed)
    extra: dict[str, Value] = {"recipe": str(recipe) if recipe else None, "half": half or None}
    command = command_line("finetune", entry.name, {**options, **extra, "name": run.name})
    new = run.name or f"{parse_name(entry.name).stem}-finetuned.{data.dataset}"
    check_out(run.out)
    overwrite = check_name(new, command, run.out, overwrite=run.overwrite)
    path, parent = _parent(entry, here, data, must=settings.distil > 0)
    if new == parent.name:
        raise ZooError(f"{new} would be its own parent: give this one another name with --name")
    model = checkpoint.load(here, device=device)
    before = checkpoint.load(path, device=device)
    fitting(model, train_set)
    identity = {"parent": entry.name, "file": entry.saved.sha256, **options, "device": device.type}
    identity |= {"recipe": str(recipe)} if recipe else {}
    identity |= {"teacher": parent.saved.sha256} if settings.distil else {}
    with run_folder("finetune", identity, resume=run.resume) as folder:
        state, log = folder / "finetune.pt", run.log
        train(
            model, train_set, settings, seed=seed, checkpoint=state, log=log, workers=run.workers,
            progress=run.progress, teacher=before if settings.distil else None,
            validation=test_set if data.validation else None,
        )  # fmt: skip
        float16 = halved(model, held, run)
        measured_before, measured = (
            measure(each, test_set, workers=run.workers, progress=run.progress) for each in (before, model)
        )
        made = {"command": command, "device": device.type, "torch": torch.__version__}
        noted = {**made, **options, **vars(settings), **extra, "parent_sha256": parent.saved.sha256}
        noted |= {"start": entry.name, "start_sha256": entry.saved.sha256}
        # The weights come from the entry, the outputs that it learns from may be the parent's.
        inherited = "; ".join(dict.fromkeys((parent.licences.weights, entry.licences.weights)))

        def card() -> Card:
            return make_card(
                new,
                model,
                measured,
                test_set,
                arch=entry.arch,
                data=data,
                recipe=noted,
                options=entry.options,
                parent=parent.name,
                parent_terms=inherited,
                parent_measured=measured_before,
                forward=(time_beside(before, model, test_set, device),),
            )

        return Made(save(model, card, run.out, overwrite=overwrite, float16=float16), measured_before)


def _parent(entry: Card, here: Path, data: Data, *, must: bool) -> tuple[Path, Card]:
    """What a network is compared with when it was trained on, and its checkpoint: the entry's parent, which mirrors are
    asked for, or the entry itself.

    Raises ZooError if there `must` be a parent, to learn from its outputs, and there is none that would do.
    """
    itself = here, entry
    if entry.parent is None:
        if must:
            raise ZooError(f"{entry.name} has no parent to learn from: fine-tune it without distil (--distil 0)")
        return itself
    try:
        path, parent = store.fetch(entry.parent)
        same_classes(parent.name, parent.num_classes, data.dataset, entry.num_classes)
    except ZooError as error:
        if must:
            raise ZooError(f"the parent of {entry.name} is not here to learn from: {error}") from error
        if distributed.rank() == 0:
            _LOG.warning("%s is compared with itself, not with its parent: %s", entry.name, error)
        return itself
    return path, parent


def _settings(
    kind: str, arch: str, data: Data, file: Path | None, changes: Mapping[str, Any] | None
) -> tuple[Recipe, Recipe]:
    """The network's recipe, or that of a file; and the same with what was said otherwise."""
    recipe = read_recipe(file, kind, data.dataset) if file else recipe_for(kind, arch, data.dataset)
    changed = replace(recipe, **{key: value for key, value in (changes or {}).items() if value is not None})
    if kind == "train" and changed.distil:
        raise ZooError("a recipe to train has no distil: there is a parent to learn from only in zoo finetune")
    return recipe, changed


def _options(
    data: Data, loaded: LabelledDataset, base: Recipe, recipe: Recipe, seed: int, **more: Value
) -> dict[str, Value]:
    """What the command line says; the recipe's other numbers are those of `base`, which it starts from."""
    said = {"epochs": recipe.epochs, "lr": recipe.lr, "batch_size": recipe.batch_size}
    others = ("accumulate", "average", "precision", "distil")
    asked = {key: getattr(recipe, key) for key in others if getattr(recipe, key) != getattr(base, key)}
    return {**data.options(loaded), **said, **asked, **more, "seed": seed}
