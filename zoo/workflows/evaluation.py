"""`zoo eval` and `zoo bench`: the right answers of an entry on a data set, forward times of entries side by side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from zoo import display, distributed, store
from zoo.cards import Accuracy, Card, Forward
from zoo.errors import ZooError
from zoo.evaluate import evaluate, forward_times, processor_name
from zoo.file_entry import load_entry
from zoo.workflows.checks import check_bench, check_eval, check_one_shape
from zoo.workflows.data_spec import DataSpec, check_classes, warn_if_trained_on_validation
from zoo.workflows.measurement import check_input_shape, forward_record
from zoo.workflows.run import RunOptions, choose_device

_LOG = logging.getLogger("zoo")


@dataclass(frozen=True)
class EvaluationResult:
    """The right answers of an entry on the test split of a data set, beside those that its card states."""

    card: Card
    dataset: str
    accuracy: Accuracy
    cross_entropy: float
    title: str  # of the data in sentences

    def table(self) -> str:
        a = self.accuracy
        lines = [
            ("right", f"{a.correct} of {a.total} on the {a.split} split of {self.title}"),
            ("accuracy", f"{100 * a.share:.2f} % (95 %: {100 * a.low:.1f} to {100 * a.high:.1f})"),
            ("cross-entropy", f"{self.cross_entropy:.4f}"),
        ]
        stated = self.card.accuracy
        if stated is not None:
            where = f"the {stated.split} split of {self.card.data_title}"
            lines.append(("its card", f"{stated.correct} of {stated.total} on {where}"))
        return display.table(lines)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.card.name,
            "dataset": self.dataset,
            "accuracy": asdict(self.accuracy),
            "cross_entropy": self.cross_entropy,
        }


def evaluate_entry(
    name: str, *, batch_size: int = 64, data: DataSpec | None = None, run: RunOptions | None = None
) -> EvaluationResult:
    """Evaluate an entry on the test split of its data set; the fields that `data` sets take the place of the entry's.

    The name may be the path of a checkpoint, which may not say its data set: `data` does then.

    Of `run` the device, the workers and the progress count.

    Raises ZooError for an unknown entry, data that is missing or does not fit, and a device that is absent.
    """
    run = run or RunOptions()
    check_eval(name, data=data or DataSpec(), run=run)
    device = choose_device(run.device)
    model, card = load_entry(name, mirror=run.mirror or None, device=device)
    spec = DataSpec.of(card, data)
    distributed.check_same(f"the checkpoint of {card.name}", card.saved.name)  # the file's name holds its hash
    test = spec.load("test")
    warn_if_trained_on_validation(card, spec)
    check_classes(card, spec, test.classes)
    check_input_shape(model, test)
    result = evaluate(model, test, batch_size=batch_size, workers=run.workers, progress=run.progress)
    accuracy = Accuracy.of(spec.test_name, result.correct, result.total)
    return EvaluationResult(card, spec.dataset, accuracy, result.cross_entropy, spec.title)


@dataclass(frozen=True)
class BenchmarkResult:
    """Forward times of several entries from one run; speed-ups are relative to the first.

    records       what cards may state: on a CPU ratios alone
    milliseconds  entry -> median, 5th and 95th percentile of this run on this machine, on a CPU too; never on cards
    processor     the machine's name for what ran it
    """

    records: dict[str, Forward]
    milliseconds: dict[str, tuple[float, float, float]]
    processor: str

    def table(self) -> str:
        first, record = next(iter(self.records.items()))
        setup = f"torch {record.torch}, batch {record.batch}, {record.dtype}, {record.mode}"
        rows: list[tuple[str, ...]] = [("entry", "median", "5 to 95 %", "samples/s", f"speed-up against {first}")]
        for name, forward in self.records.items():
            median, low, high = self.milliseconds[name]
            rate = display.quantity(1000 * record.batch / median)
            ratio = "" if name == first else display.speedup(forward)
            rows.append((name, f"{median:.3f} ms", f"{low:.3f} to {high:.3f} ms", rate, ratio))
        if len(self.records) == 1:  # its speed-up over itself says nothing
            rows = [row[:-1] for row in rows]
        table = f"{self.processor}, {setup}\n{display.table(rows)}"
        if record.device.startswith("cpu"):
            table += "\nMilliseconds of this machine in this run: they stand on no card."
        return table

    def to_dict(self) -> dict[str, Any]:
        records = {name: asdict(record) for name, record in self.records.items()}
        keys = ("median", "p5", "p95")
        here = {name: dict(zip(keys, times, strict=True)) for name, times in self.milliseconds.items()}
        first = next(iter(records))
        return {"against": first, "times": records, "processor": self.processor, "milliseconds_here": here}


def bench_entries(
    entries: Sequence[str], *, batch: int = 32, dtype: str = "float32", mode: str = "eager", repeats: int = 50,
    run: RunOptions | None = None,
) -> BenchmarkResult:  # fmt: skip
    """Time the forward pass of entries on random samples, interleaved; a single entry is timed beside its parent.

    batch, dtype, mode, repeats  as of `zoo.evaluate.forward_times`; `batch` is the number of samples of a pass
    run                          of which the device counts

    The milliseconds of a CPU are given for this run alone and never on cards: they depend on the machine and its other
    work, ratios hardly do.

    Raises ZooError for an unknown entry, entries that take samples of different shapes, and as `forward_times`.
    """
    run = run or RunOptions()
    check_bench(entries, dtype=dtype, mode=mode, run=run)
    device = choose_device(run.device)
    loaded = ((name, *load_entry(name, mirror=run.mirror or None, device=device)) for name in entries)
    named = {name if store.is_path(name) else card.name: (model, card) for name, model, card in loaded}
    found = _with_parent(named, run, device)
    check_one_shape([card for _, card in found.values()])
    models = {name: model for name, (model, _) in found.items()}
    shape = next(iter(found.values()))[1].sample_shape
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    warmup = max(3, repeats // 5)
    times = forward_times(models, x, repeats=repeats, warmup=warmup, dtype=dtype, mode=mode)
    return BenchmarkResult(
        {name: forward_record(record, device, batch=batch, dtype=dtype, mode=mode) for name, record in times.items()},
        {name: (1000 * each.median, 1000 * each.p5, 1000 * each.p95) for name, each in times.items()},
        processor_name(device),
    )


def _with_parent(
    found: dict[str, tuple[nn.Module, Card]], run: RunOptions, device: torch.device
) -> dict[str, tuple[nn.Module, Card]]:
    """The entries, and before a single one its parent where the two can be compared; a warning where not."""
    card = next(iter(found.values()))[1]
    if len(found) > 1 or card.parent is None:
        return found
    try:
        model, parent = load_entry(card.parent, mirror=run.mirror or None, device=device)
        if parent.sample_shape != card.sample_shape:
            raise ZooError(f"it takes samples of {parent.sample_shape}, this one of {card.sample_shape}")
        if card.parent_in({parent.name: parent}) is None:
            raise ZooError("it was made anew since; name both to compare them as they are")
        return {parent.name: (model, parent), **found}
    except ZooError as error:
        _LOG.warning("%s is timed alone, without its parent %s: %s", card.name, card.parent, error)
        return found
