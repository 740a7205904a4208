"""What every command that makes an entry does around its own work.

Which data, where a killed run goes on, the command line that makes the entry again, measuring, the card.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo import display, distributed, store
from zoo.cards import NO_PARENT, UNKNOWN, Accuracy, Card, Forward, Value, licences_of_trained, parse_name
from zoo.datasets import LabelledDataset, load, train_val_split
from zoo.distributed import device_of
from zoo.errors import ZooError
from zoo.evaluate import Counts, Evaluation, Times, count, device_name, evaluate, forward_times
from zoo.half_precision import HELD_OUT, round_to_float16
from zoo.utils import check_folder
from zoo.workflows.save import save_entry

_LOG = logging.getLogger("zoo")


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data set and its form: N `points` of a cloud, the side `size` of an image, its `mean` and `std`.

    With `validation`, a part of the training split takes the place of the test split, for choices; 0 is none.
    """

    dataset: str
    data_dir: Path | None = None
    points: int | None = None
    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    download: bool = False
    validation: float | None = None

    @classmethod
    def of(cls, card: Card, **given: Any) -> Data:
        """The data that an entry was made with; what is given (and not None) takes its place."""
        form: dict[str, Any] = {"dataset": card.dataset}
        if given.get("dataset") in (None, card.dataset):
            form["points" if len(card.sample_shape) == 2 else "size"] = card.sample_shape[-1]
            form |= {key: card.recipe[key] for key in ("mean", "std", "validation") if key in card.recipe}
        form |= {key: value for key, value in given.items() if value is not None}
        if not card.recipe.get("validation"):
            form["validation"] = form.get("validation") or None  # 0, none, is worth saying where the card has a part
        return cls(**form)

    def load(self, split: str, *, augment: bool = False) -> LabelledDataset:
        """The training or the test split; with `validation` the training split without that part of it, or the part.

        Every process has the data itself. What is fetched first is fetched once on each machine.
        """
        if self.download:
            return distributed.local_rank0_first(lambda: self._load(split, augment))
        return self._load(split, augment)

    def _load(self, split: str, augment: bool) -> LabelledDataset:
        given = {key: value for key, value in vars(self).items() if key not in ("dataset", "validation")}
        if not self.validation:
            return load(self.dataset, split, augment=augment, **given)
        kept, held = train_val_split(load(self.dataset, "train", augment=augment, **given), self.validation)
        return kept if split == "train" else held

    @property
    def judged_on(self) -> str:
        """What `load("test")` gives."""
        return "validation" if self.validation else "test"

    def options(self, loaded: LabelledDataset) -> dict[str, Value]:
        """What a command line has to say to get the same samples, defaults included, once they are loaded.

        The folder is not part of it: that is each machine's own affair.
        """
        form = "points" if len(loaded.sample_shape) == 2 else "size"
        given: dict[str, Value] = {"dataset": self.dataset, form: loaded.sample_shape[-1]}
        given |= {"mean": self.mean, "std": self.std, "validation": self.validation}
        return {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Run:
    """What does not change which network comes out: where it is computed, and what becomes of it."""

    device: str | None = None
    out: Path | None = None
    name: str | None = None
    overwrite: bool = False
    resume: bool = True
    workers: int = 0
    log: Path | None = None
    progress: bool = False


@dataclass(frozen=True)
class Measured:
    """One network on a split that it was not trained on."""

    evaluation: Evaluation
    counts: Counts


@dataclass(frozen=True)
class Made:
    """A saved entry, and what its parent measured in the same run if it has one."""

    card: Card
    parent: Measured | None = None

    def table(self) -> str:
        """One line per network: right answers, accuracy and its interval, cost in both counts, speed."""
        rows = [display.card_row(self.card)]
        if self.parent is not None and self.card.parent is not None:
            rows.insert(0, display.row(self.card.parent, self.card.parent_accuracy, *astuple(self.parent.counts)))
        return display.comparison(rows)

    def to_dict(self) -> dict[str, Any]:
        """The card, and the parent's counts; ready for JSON."""
        card: dict[str, Any] = json.loads(self.card.to_json())
        return {"card": card, "parent": asdict(self.parent.counts) if self.parent else None}


def measure(model: nn.Module, test: LabelledDataset, *, workers: int = 0, progress: bool = False) -> Measured:
    counts = fitting(model, test)
    return Measured(evaluate(model, test, workers=workers, progress=progress), counts)


def fitting(model: nn.Module, data: LabelledDataset) -> Counts:
    """What the network costs for a sample of the data; it is quick, so it comes before what takes long.

    Raises ZooError if such a sample does not fit the network.
    """
    try:
        return count(model, data.sample_shape)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except RuntimeError as error:  # torch's, of a layer somewhere inside
        shape = " x ".join(map(str, data.sample_shape))
        raise ZooError(
            f"samples of {shape} do not fit this network ({str(error).splitlines()[0]}): "
            "use a data set of the kind that it is for"
        ) from error


def choose_device(name: str | None) -> torch.device:
    """The device of that name, or the first GPU if there is one and nothing was named; of several processes each has
    a GPU of its own."""
    found = device_of(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if found.index is not None and distributed.is_distributed():
        raise ZooError(
            f"--device {found} is one GPU for several processes: write --device cuda, and each takes its own"
        )
    return distributed.local_device(str(found))


def warn_of_seen(card: Card, data: Data) -> None:
    """Say in a warning that the network, or one that it was made from, was trained on samples of the part."""
    if not data.validation or distributed.rank() > 0:
        return
    known, names_, seen = store.cards(), [card.name], set[str]()
    while names_:
        each = known.get(names_.pop(0), card)
        if each.name in seen:
            continue
        seen.add(each.name)
        part = each.recipe.get("validation") or 0.0
        # A smaller part lies within a larger one (`zoo.datasets.splits`).
        if each.dataset == data.dataset and float(part) < data.validation:  # type: ignore[arg-type]  # a number
            _LOG.warning(
                "%s was trained on samples of this validation part, so what is counted on it says little of unseen "
                "ones: to choose by it, start from a network that zoo train --validation %g made",
                each.name,
                data.validation,
            )
            return
        names_ += [str(name) for name in (each.recipe.get("start"), each.parent) if name in known]


def same_classes(name: str, classes: int, dataset: str, has: int) -> None:
    """Raise ZooError if a network with so many outputs cannot be used on a data set with so many classes."""
    if classes != has:
        raise ZooError(
            f"{name} tells {classes} classes apart, but {dataset} has {has}: use a data set with the same classes"
        )


def command_line(command: str, argument: str, options: Mapping[str, Value]) -> str:
    """The text to type: `zoo train dgcnn --dataset shapes --epochs 60`.

    An option of None or False is left out, one of True stands alone, a tuple's values follow one another.
    """
    words = ["zoo", command, argument]
    for option, value in options.items():
        if value is None or value is False:
            continue
        words.append("--" + option.replace("_", "-"))
        if value is not True:
            words += [str(each) for each in (value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


@contextmanager
def run_folder(command: str, arguments: Mapping[str, Any], *, resume: bool) -> Iterator[Path]:
    """The folder that keeps the state of a run with these arguments until the run has succeeded.

    A run that fails or is killed leaves it, and the same arguments find it again; without `resume` it is emptied
    first. Arguments that do not change the result (where to save it, under which name) do not belong here. Of several
    processes the first one alone looks after it, when all have come to its beginning and to its end.
    """
    text = json.dumps([command, arguments], sort_keys=True, default=str)
    folder = store.home() / "runs" / f"{command}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not resume:
        _remove(folder)
    yield folder
    _remove(folder)


def _remove(folder: Path) -> None:
    distributed.all_gather_object(None)  # nobody works in it any more
    distributed.run_on_rank0(lambda: shutil.rmtree(folder, ignore_errors=True))


def check_name(name: str, command: str, out: Path | None, *, overwrite: bool) -> bool:
    """Raise ZooError if the name is another entry's; True if an entry of that name may be replaced.

    An entry that the same command made may be: making it again is no loss. The first process looks, for all.
    """
    return distributed.run_on_rank0(lambda: _may_replace(name, command, out, overwrite))


def check_out(out: Path | None) -> None:
    """Make the folder that entries go to; raise ZooError, before what takes long, if nothing can be written there."""
    distributed.run_on_rank0(lambda: check_folder(store.user_dir() if out is None else out))


def save(
    model: nn.Module, card: Callable[[], Card], out: Path | None, *, overwrite: bool, float16: Collection[str] = ()
) -> Card:  # fmt: skip
    """Save the entry and return its card as saved; the first process makes the card, with its times, and writes."""
    return distributed.run_on_rank0(lambda: save_entry(model, card(), out, overwrite=overwrite, float16=float16))


def held_for_halving(data: Data) -> LabelledDataset:
    """The part of the training split that is held out for choices; `HELD_OUT` of it where none is.

    Raises ZooError where the split is too small for that.
    """
    return replace(data, validation=data.validation or HELD_OUT).load("test")


def halved(model: nn.Module, held: LabelledDataset | None, run: Run) -> tuple[str, ...]:
    """Round the weights to half precision where that changes no decision on what is held out (`zoo.half_precision`), say what
    came of it, and return the names of those that were rounded; with nothing held out it was not asked for."""
    if held is None:
        return ()
    found = round_to_float16(model, held, workers=run.workers, progress=run.progress and distributed.rank() == 0)
    found = distributed.broadcast_object(found)
    distributed.broadcast_tensors(parameter.data for parameter in model.parameters())
    if run.progress and distributed.rank() == 0:
        print(found.sentence(), file=sys.stderr, flush=True)
    return found.float16


def _may_replace(name: str, command: str, out: Path | None, overwrite: bool) -> bool:
    parse_name(name)
    folder = store.user_dir() if out is None else out
    place = folder / f"{name}.json"
    if out is None and store.is_shipped(name):
        raise ZooError(
            f"{name} is the name of an entry that is shipped: "
            "give yours another one with --name, or write it to a folder of its own with --out DIR"
        )
    if overwrite or not place.exists():
        return overwrite
    other = store.read_card(place).recipe["command"]
    if other != command:
        raise ZooError(
            f"{folder} has an entry {name} already, made by `{other}`: "
            "give this one another name with --name, or replace that one with --overwrite"
        )
    return True


def make_card(
    name: str,
    model: nn.Module,
    measured: Measured,
    test: LabelledDataset,
    *,
    arch: str,
    data: Data,
    recipe: Mapping[str, Value],
    options: Mapping[str, Value] | None = None,
    parent: str | None = None,
    parent_terms: str = UNKNOWN,
    parent_measured: Measured | None = None,
    forward: tuple[Forward, ...] = (),
) -> Card:
    """The card of a network that was measured on `test`, the split that `data` is judged on.

    `parent_terms` are those of the parent's weights; they count only where there is a parent.
    """
    e, counts = measured.evaluation, measured.counts
    before = parent_measured.evaluation if parent_measured else None
    return Card(
        name=name,
        arch=arch,
        dataset=data.dataset,
        num_classes=test.num_classes,
        sample_shape=tuple(test.sample_shape),
        options=dict(options or {}),
        widths=dict(model.widths),  # type: ignore[arg-type]  # a property of every model of the zoo
        parent=parent,
        recipe={key: value for key, value in recipe.items() if value is not None},
        accuracy=Accuracy.of(data.judged_on, e.correct, e.total),
        parent_accuracy=Accuracy.of(data.judged_on, before.correct, before.total) if before else None,
        cross_entropy=round(e.cross_entropy, 6),
        parameters=counts.parameters,
        macs=counts.macs,
        macs_paper=counts.macs_paper,
        forward=forward,
        licences=licences_of_trained(data.dataset, NO_PARENT if parent is None else parent_terms),
    )


def time_beside(parent: nn.Module, own: nn.Module, test: LabelledDataset, device: torch.device) -> Forward:
    """The forward time of a network as its card records it, its parent measured in the same run."""
    cuda = device.type == "cuda"
    batch = min(32 if cuda else 8, len(test))
    x = torch.stack([test[i][0] for i in range(batch)]).to(device)
    times = forward_times({"parent": parent, "own": own}, x, repeats=50 if cuda else 20, warmup=10 if cuda else 3)
    return forward_record(times["own"], device, batch=batch, dtype="float32", mode="eager")


def forward_record(
    times: Times, device: torch.device, *, batch: int, dtype: str, mode: str, parent: bool = True
) -> Forward:
    """The card's record; seconds stand in it only if the device is a GPU, ratios only beside a parent."""
    cuda = device.type == "cuda"
    made = Forward(
        device=f"cuda: {device_name(device)}" if cuda else "cpu",
        torch=torch.__version__,
        batch=batch,
        dtype=dtype,
        mode=mode,
        ratio=round(times.speedup, 4),
        ratio_low=round(times.speedup_low, 4),
        ratio_high=round(times.speedup_high, 4),
        median_ms=round(times.median * 1000, 4) if cuda else None,
        p95_ms=round(times.p95 * 1000, 4) if cuda else None,
    )
    return made if parent else replace(made, ratio=None, ratio_low=None, ratio_high=None)
