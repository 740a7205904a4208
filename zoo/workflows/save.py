"""The end of every command that makes an entry: measure the network, write its card, save both."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from zoo import checkpoint, display, distributed, store
from zoo.cards import MAX_CLASS_NAMES, NO_PARENT, Accuracy, Card, File, Forward, Value, licences_of_trained
from zoo.datasets import LabelledDataset, dataset_info
from zoo.errors import ZooError
from zoo.half_precision import round_to_float16
from zoo.utils import say
from zoo.workflows.data_spec import Splits
from zoo.workflows.measurement import Measurement, measure, time_beside
from zoo.workflows.run import RunOptions, free_name

_LOG = logging.getLogger("zoo")
_FEW_SAMPLES = 30  # of fewer even good networks may have no interval above chance


@dataclass(frozen=True)
class Parent:
    """The network that a new one was made from, or is compared with, and what the card of the new one states of it."""

    name: str
    arch: str
    model: nn.Module
    options: Mapping[str, Value]
    sha256: str
    licence: str  # of its weights
    typed: str = ""  # in a command, where that is not its name: the path of a file


@dataclass(frozen=True)
class EntryDraft:
    """What the card of a new entry states besides measured numbers.

    `options` are those of the network's builder, `recipe` the command and its settings.
    """

    name: str
    arch: str
    recipe: Mapping[str, Value]
    options: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    parent: Parent | None = None
    parent_measurement: Measurement | None = None

    def card(self, model: nn.Module, measured: Measurement, splits: Splits, forward: tuple[Forward, ...]) -> Card:
        """The card, without the record of the file."""
        evaluation, counts, before = measured.evaluation, measured.counts, self.parent_measurement
        spec, parent = splits.spec, self.parent

        def accuracy(of: Measurement) -> Accuracy:
            return Accuracy.of(spec.test_name, of.evaluation.correct, of.evaluation.total)

        return Card(
            name=self.name,
            arch=self.arch,
            dataset=spec.dataset,
            num_classes=splits.test.num_classes,
            classes=_names_on_card(spec.dataset, splits.test.classes),
            sample_shape=tuple(splits.test.sample_shape),
            options=dict(self.options),
            widths=dict(model.widths),  # type: ignore[arg-type]  # a property of every model of the zoo
            parent=parent.name if parent else None,
            recipe={key: value for key, value in self.recipe.items() if value is not None},
            accuracy=accuracy(measured),
            parent_accuracy=accuracy(before) if before else None,
            cross_entropy=round(evaluation.cross_entropy, 6),
            parameters=counts.parameters,
            macs=counts.macs,
            macs_paper=counts.macs_paper,
            forward=forward,
            licences=licences_of_trained(spec.dataset, parent.licence if parent else NO_PARENT),
        )


def _names_on_card(dataset: str, classes: Sequence[str]) -> tuple[str, ...] | None:
    """The names of the classes, where they depend on the copy of the data and are no more than a card holds."""
    known = dataset_info(dataset).num_classes == len(classes)
    return None if known or len(classes) > MAX_CLASS_NAMES else tuple(classes)


@dataclass(frozen=True)
class EntryResult:
    """A saved entry, what was measured of its parent in the same run if it has one, and the folder it lies in."""

    card: Card
    measurement: Measurement
    parent: Measurement | None = None
    folder: Path | None = None

    def table(self) -> str:
        """One line per network: right answers, accuracy and its interval, cost in both counts, speed."""
        rows = [display.card_row(self.card)]
        if self.parent is not None and self.card.parent is not None:
            counts = astuple(self.parent.counts)
            rows.insert(0, display.comparison_row(self.card.parent, self.card.parent_accuracy, *counts))
        return display.comparison_table(rows)

    @property
    def typed(self) -> str:
        """What names the entry in a command: outside of the user's zoo the path of its checkpoint."""
        if self.folder is None or self.folder == store.user_dir():
            return self.card.name
        return shlex.quote(str(self.folder / self.card.saved.name))

    def ending(self) -> str:
        """Where the entry was saved, how it compares, and what to type next."""
        name = self.typed
        worse = [text] if (text := self._clearly_worse()) else []
        lines = (
            f"Saved as {self.card.name} in {self.folder or store.user_dir()}.",
            f"Next:  zoo info {name}",
            f"       zoo bench {name}",
            f"       zoo predict {name} FILE",
            f"       zoo export {name} --format onnx",
            *self._more_commands(name),
        )
        return "\n".join([*worse, *lines])

    def _more_commands(self, name: str) -> list[str]:
        return []

    def _clearly_worse(self) -> str | None:
        """A warning where the network is worse than its parent, or no better than guessing; None otherwise."""
        after, before, classes = self.card.accuracy, self.card.parent_accuracy, self.card.num_classes
        assert after is not None  # every network that is saved was measured
        if after.total < _FEW_SAMPLES and after.low <= 1 / classes < after.share:
            return (
                f"{after.correct} of {after.total} right do not tell the network from guessing: "
                "count more test samples, or train for more epochs."
            )
        if after.low <= 1 / classes:
            return f"The network is no better than guessing: {after.correct} of {after.total} right."
        if before is None or after.high >= before.low:
            return None
        points = 100 * (after.share - before.share)
        return (
            f"The network is clearly worse than its parent: {after.correct} against {before.correct} of {after.total} "
            f"right ({points:+.1f} points, and the 95 % intervals are apart)."
        )

    def to_dict(self) -> dict[str, Any]:
        """The card, and the parent's counts; ready for JSON."""
        card: dict[str, Any] = json.loads(self.card.to_json())
        return {"card": card, "parent": asdict(self.parent.counts) if self.parent else None}


def finish_entry(
    model: nn.Module, draft: EntryDraft, splits: Splits, run: RunOptions, device: torch.device
) -> EntryResult:
    """Store the weights in float16 if asked for, measure the network, time it beside its parent, and save the entry.

    Of several processes the first one times and writes.
    """
    float16 = store_float16(model, splits.holdout, run)
    measured = measure(model, splits.test, workers=run.workers, progress=run.progress)
    typed = str(draft.recipe["command"])

    def save() -> Card:
        compared = draft.parent if draft.parent_measurement else None
        forward = (time_beside(compared.model, model, splits.test, device),) if compared else ()
        while True:
            name, overwrite = free_name(draft.name, typed, run)
            command = typed if run.name is None else typed.replace(f"--name {run.name}", f"--name {name}")
            recipe = {**draft.recipe, "command": command, "device": device.type, "torch": torch.__version__}
            named = dataclasses.replace(draft, name=name, recipe=recipe)
            card = named.card(model, measured, splits, forward)
            try:
                card = save_entry(model, card, run.folder, overwrite=overwrite, float16=float16)
            except store.NameTakenError:  # just now, by another process: the next free name
                continue
            if run.name not in (None, name):
                _LOG.warning("%s was taken while this command ran: the network is saved as %s", run.name, name)
            return card

    return EntryResult(distributed.run_on_rank0(save), measured, draft.parent_measurement, run.folder)


def store_float16(model: nn.Module, holdout: LabelledDataset | None, run: RunOptions) -> tuple[str, ...]:
    """Round weights to float16, in place, where that changes no decision on the samples held out; their names.

    What was rounded is printed with `run.progress`. Without samples nothing is rounded.
    """
    if holdout is None:
        return ()
    progress = run.progress and distributed.rank() == 0
    result = distributed.broadcast_object(round_to_float16(model, holdout, workers=run.workers, progress=progress))
    distributed.broadcast_tensors(parameter.data for parameter in model.parameters())
    if progress:
        say(result.sentence())
    return result.float16


def save_entry(
    model: nn.Module, card: Card, folder: Path | None = None, *, overwrite: bool = False, float16: Collection[str] = ()
) -> Card:  # fmt: skip
    """Write a model and its card as an entry of a folder, the user's zoo by default; the card with its `file` set.

    The card's arch, num_classes, options and widths go into the checkpoint. The weights that `float16` names, rounded
    by `zoo.half_precision.round_to_float16`, are stored in that type, and the card says so.

    Raises ZooError if the card's widths are not the model's, if a weight that `float16` names is none of the model's
    matrices and kernels or does not fit float16, and as `zoo.store.write_entry`.
    """
    if card.widths != dict(getattr(model, "widths", {})):
        raise ZooError(f"card {card.name!r}: its widths are not those of the model that is saved with it")
    data = checkpoint.pack(model, arch=card.arch, num_classes=card.num_classes, options=card.options, float16=float16)
    sha256 = hashlib.sha256(data).hexdigest()
    weights = None
    if float16:
        weights = "float16" if checkpoint.large_weights(model).keys() <= set(float16) else "mixed"
    file = File(name=f"{card.name}-{sha256[:8]}.safetensors", size=len(data), sha256=sha256, weights=weights)
    card = dataclasses.replace(card, file=file)

    def write(out: BinaryIO) -> None:
        out.write(data)

    store.write_entry(card, store.user_dir() if folder is None else folder, write, overwrite=overwrite)
    return card
