"""`zoo train` and `zoo finetune`: from the name of a network, or of an entry, to a trained entry."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo import checkpoint, distributed, models, store
from zoo.cards import Card, Value, parse_name
from zoo.errors import ZooError
from zoo.file_entry import find_entry, typed_name
from zoo.train import Recipe, train
from zoo.utils import check_seed
from zoo.workflows.checks import check_finetune, check_train
from zoo.workflows.command_words import command_line
from zoo.workflows.data_spec import (
    DataSpec,
    Splits,
    check_classes,
    needs_new_head,
    warn_if_trained_on_validation,
)
from zoo.workflows.measurement import check_input_shape, measure
from zoo.workflows.recipes import recipe_on_command_line, resolve_recipe
from zoo.workflows.run import RunOptions, check_name, check_output_dir, choose_device, run_folder
from zoo.workflows.save import EntryDraft, EntryResult, Parent, finish_entry

_LOG = logging.getLogger("zoo")


def train_entry(
    arch: str,
    data: DataSpec,
    *,
    recipe: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    width: float = 1.0,
    seed: int = 0,
    run: RunOptions | None = None,
) -> EntryResult:
    """Train a network from its initial weights, evaluate it once on the test split, and save it as an entry.

    recipe   a file that takes the place of the network's own recipe (`zoo.train.Recipe`)
    changes  fields of the recipe that take the place of its own; None values are left out
    width    the width multiplier of the network

    The entry is called `<arch>[-<width>x].<dataset>` if `run` gives no name; a number follows where another command's
    entry has that name.

    Raises ZooError for an unknown network or data set, a name that another entry has, and as `zoo.train.train`.
    """
    run = run or RunOptions()
    check_train(arch, data, recipe=recipe, changes=changes, width=width, seed=seed, run=run)
    check_seed(seed)
    base, settings = resolve_recipe("train", arch, data.dataset, recipe, changes)
    device = choose_device(run.device)
    splits = Splits.load(data, augment=True, holdout=run.fp16_weights)
    recipe_setting: dict[str, Value] = {"recipe": str(recipe)} if recipe else {}
    command_settings = {
        **data.recipe(splits.train),
        **recipe_on_command_line(base, settings),
        "width": None if width == 1 else width,
        "seed": seed,
    }
    storage_settings = {**recipe_setting, "half": run.fp16_weights or None}
    command = command_line("train", arch, {**command_settings, **storage_settings, "name": run.name})
    name = run.name or f"{arch}{'' if width == 1 else f'-{width:g}x'}.{data.suffix}"
    check_output_dir(run)
    if run.name is not None:  # a chosen name that is taken gets a number behind it
        check_name(name, command, run)
    num_classes = splits.train.num_classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = models.scaled_widths(arch, width, num_classes=num_classes)
        model = models.create_model(arch, num_classes=num_classes, widths=widths).to(device)
    check_input_shape(model, splits.train)
    identity = {"arch": arch, **command_settings, **data.identity(), "device": device.type, **recipe_setting}
    with run_folder("train", identity, resume=run.resume) as folder:
        run_training(model, splits, settings, folder / "train.pt", seed=seed, run=run)
        card_recipe = {"command": command, **command_settings, **vars(settings), **storage_settings}
        return finish_entry(model, EntryDraft(name, arch, card_recipe), splits, run, device)


def finetune_entry(
    name: str,
    *,
    recipe: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    data: DataSpec | None = None,
    seed: int = 0,
    run: RunOptions | None = None,
) -> EntryResult:
    """Train an entry further with its fine-tuning recipe, and save the result as another entry.

    name     an entry's, or the path of a checkpoint
    recipe   a file that takes the place of the network's own recipe (`zoo.train.Recipe`)
    changes  fields of the recipe that take the place of its own; None values are left out
    data     fields that take the place of the entry's own

    The new entry is called `<stem>-finetuned.<dataset>` if `run` gives no name, and a number follows where another
    command's entry has that name. Accuracy and speed are compared with
    those of the entry's parent, for a pruned network the one that it was pruned from, and a recipe that distils learns
    from the parent's outputs. An entry without a parent, or whose parent is not on this machine, is compared with
    itself. On a data set with other classes the last layer starts anew, which a warning says; the result then is a
    child of the entry itself, and is compared with nothing.

    Raises ZooError as `train_entry`, and for a recipe that distils where there is no parent with the same classes.
    """
    run = run or RunOptions()
    check_finetune(name, data=data or DataSpec(), recipe=recipe, changes=changes, seed=seed, run=run)
    device = choose_device(run.device)
    path, entry = find_entry(name, mirror=run.mirror or None)
    spec = DataSpec.of(entry, data)
    check_seed(seed)
    base, settings = resolve_recipe("finetune", entry.arch, spec.dataset, recipe, changes)
    splits = Splits.load(spec, augment=True, holdout=run.fp16_weights)
    warn_if_trained_on_validation(entry, spec)
    recipe_setting: dict[str, Value] = {"recipe": str(recipe)} if recipe else {}
    command_settings = {**spec.recipe(splits.train), **recipe_on_command_line(base, settings), "seed": seed}
    storage_settings = {**recipe_setting, "half": run.fp16_weights or None}
    settings_typed = {**command_settings, **storage_settings, "name": run.name}
    command = command_line("finetune", typed_name(name, entry), settings_typed)
    new_name = run.name or f"{parse_name(entry.name).stem}-finetuned.{spec.suffix}"
    new_head = needs_new_head(entry, spec, splits.train)
    if new_head and settings.distil:
        raise ZooError(
            f"{entry.name} tells other classes apart than {spec.title}, so there are no outputs to learn from: "
            "fine-tune it without `distil`"
        )
    parent = _parent_of(entry, path, splits, device, run.mirror, required=settings.distil > 0, new_head=new_head)
    check_output_dir(run)
    if run.name is not None:
        check_name(new_name, command, run, parent=parent.name)
    parse_name(new_name)
    with torch.random.fork_rng(devices=[]):  # a new head draws its initial weights
        torch.manual_seed(seed)
        num_classes = splits.train.num_classes if new_head else None
        model = checkpoint.load(path, device=device, num_classes=num_classes, new_head=new_head)
    check_input_shape(model, splits.train)
    identity = {"parent": entry.name, "file": entry.saved.sha256, **command_settings, **spec.identity()}
    identity |= {"device": device.type, **recipe_setting}
    identity |= {"teacher": parent.sha256} if settings.distil else {}
    with run_folder("finetune", identity, resume=run.resume) as folder:
        teacher = parent.model if settings.distil else None
        run_training(model, splits, settings, folder / "finetune.pt", seed=seed, run=run, teacher=teacher)
        before = None
        if not new_head:
            before = measure(parent.model, splits.test, workers=run.workers, progress=run.progress)
        card_recipe = {
            "command": command, **command_settings, **vars(settings), **storage_settings,
            "parent_sha256": parent.sha256, "start": entry.name, "start_sha256": entry.saved.sha256,
        }  # fmt: skip
        draft = EntryDraft(new_name, entry.arch, card_recipe, entry.options, parent, before)
        return finish_entry(model, draft, splits, run, device)


def run_training(
    model: nn.Module, splits: Splits, recipe: Recipe, state: Path, *, seed: int, run: RunOptions,
    teacher: nn.Module | None = None,
) -> None:  # fmt: skip
    """Train a network in place; a killed run continues from the file `state`. With a recipe that distils the network
    learns from the teacher's outputs."""
    train(
        model, splits.train, recipe, seed=seed, checkpoint=state, log=run.log, workers=run.workers,
        progress=run.progress, teacher=teacher, validation=splits.validation,
    )  # fmt: skip


def _parent_of(
    entry: Card, path: Path, splits: Splits, device: torch.device, mirror: Sequence[str], *, required: bool,
    new_head: bool,
) -> Parent:  # fmt: skip
    """The network that a fine-tuned entry is compared with: the entry's parent, fetched from mirrors if it is not here,
    or the entry itself, as where the result has a new head.

    Raises ZooError where a parent is required, to learn from its outputs, and there is none.
    """
    file, card = path, entry
    if entry.parent is None and required:
        raise ZooError(f"{entry.name} has no parent to learn from: fine-tune it without `distil`")
    if entry.parent is not None and not new_head:
        try:
            parent_file, parent = store.fetch(entry.parent, mirror=mirror or None)
            if parent.name != entry.parent:  # a network that came from a file, which is called like an entry's stem
                raise ZooError(f"{entry.parent} was a file, and no entry of that name is here")
            check_classes(parent, splits.spec, splits.train.classes)
            file, card = parent_file, parent
        except ZooError as error:
            if required:
                raise ZooError(f"the parent of {entry.name} is not here to learn from: {error}") from error
            if distributed.rank() == 0:
                _LOG.warning("%s is compared with itself, not with its parent: %s", entry.name, error)
    # The weights come from the entry, the outputs to learn from may be the parent's: the terms of both count.
    licence = "; ".join(dict.fromkeys((card.licences.weights, entry.licences.weights)))
    model = checkpoint.load(file, device=device)
    return Parent(card.name, card.arch, model, card.options, card.saved.sha256, licence)
