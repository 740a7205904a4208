"""Entries looked at again: right answers on a data set, forward time side by side."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from zoo import checkpoint, display, distributed, store
from zoo.cards import Accuracy, Card, Forward
from zoo.datasets import dataset_title
from zoo.errors import ZooError
from zoo.evaluate import evaluate, forward_times
from zoo.workflows.entry import Data, choose_device, fitting, forward_record, same_classes, warn_of_seen

_LOG = logging.getLogger("zoo")


@dataclass(frozen=True)
class Examined:
    """An entry's answers on the test split of a data set, beside what its card says of its own."""

    card: Card
    dataset: str
    accuracy: Accuracy
    cross_entropy: float

    def table(self) -> str:
        a = self.accuracy
        lines = [
            ("right", f"{a.correct} of {a.total} on the {a.split} split of {dataset_title(self.dataset)}"),
            ("accuracy", f"{100 * a.share:.2f} % (95 %: {100 * a.low:.1f} to {100 * a.high:.1f})"),
            ("cross-entropy", f"{self.cross_entropy:.4f}"),
        ]
        stated = self.card.accuracy
        if stated is not None:
            where = f"the {stated.split} split of {dataset_title(self.card.dataset)}"
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
    name: str,
    *,
    batch_size: int = 64,
    device: str | None = None,
    workers: int = 0,
    progress: bool = False,
    **given: Any,
) -> Examined:
    """Evaluate an entry on the test split of its data set; `given` are fields of `Data` that replace the card's.

    Raises ZooError for an unknown entry, data that is missing or does not fit, and a device that is absent.
    """
    place = choose_device(device)
    path, card = store.fetch(name)
    data = Data.of(card, **given)
    distributed.check_same(f"the checkpoint of {card.name}", card.saved.name)  # which has the hash in it
    test = data.load("test")
    warn_of_seen(card, data)
    same_classes(card.name, card.num_classes, data.dataset, test.num_classes)
    model = checkpoint.load(path, device=place)
    fitting(model, test)
    found = evaluate(model, test, batch_size=batch_size, workers=workers, progress=progress)
    return Examined(card, data.dataset, Accuracy.of(data.judged_on, found.correct, found.total), found.cross_entropy)


@dataclass(frozen=True)
class Timed:
    """Forward times of several entries in one run; speed-ups are against the first."""

    records: dict[str, Forward]

    def table(self) -> str:
        first, record = next(iter(self.records.items()))
        head = f"{record.device}, torch {record.torch}, batch {record.batch}, {record.dtype}, {record.mode}"
        rows: list[tuple[str, ...]] = [("entry", f"speed-up against {first}", "median", "95 %")]
        for name, each in self.records.items():
            times = ("" if ms is None else f"{ms:.3f} ms" for ms in (each.median_ms, each.p95_ms))
            rows.append((name, display.speedup(each), *times))
        if record.median_ms is None:
            rows = [row[:2] for row in rows]
        return f"{head}\n{display.table(rows)}"

    def to_dict(self) -> dict[str, Any]:
        records = {name: asdict(record) for name, record in self.records.items()}
        return {"against": next(iter(records)), "times": records}


def bench_entries(
    entries: Sequence[str],
    *,
    batch: int = 32,
    dtype: str = "float32",
    mode: str = "eager",
    repeats: int = 50,
    device: str | None = None,
) -> Timed:
    """Time the forward pass of entries on random samples, interleaved; a single entry is timed beside its parent.

    Milliseconds are given on a GPU only: those of a processor depend on whatever else it does, ratios hardly do.

    Raises ZooError for an unknown entry, entries that take samples of different shapes, and as `forward_times`.
    """
    place = choose_device(device)
    cards = {card.name: card for _, card in map(store.fetch, entries)}
    if len(cards) == 1 and (parent := next(iter(cards.values())).parent):
        (own,) = cards.values()
        try:
            _, found = store.fetch(parent)
            if found.sample_shape != own.sample_shape:
                raise ZooError(f"it takes samples of {found.sample_shape}, this one of {own.sample_shape}")
            if own.parent_in({found.name: found}) is None:
                raise ZooError("it was made anew since; name both to compare them as they are")
            cards = {found.name: found, **cards}
        except ZooError as error:
            _LOG.warning("%s is timed alone, without its parent %s: %s", own.name, parent, error)
    shapes = {card.sample_shape for card in cards.values()}
    if len(shapes) > 1:
        raise ZooError(f"entries can be compared on samples of one shape only; these take {sorted(shapes)}")
    models = {name: checkpoint.load(store.download(name), device=place) for name in cards}
    x = torch.randn(batch, *shapes.pop(), generator=torch.Generator().manual_seed(0)).to(place)
    warmup = max(3, repeats // 5)
    times = forward_times(models, x, repeats=repeats, warmup=warmup, dtype=dtype, mode=mode)
    return Timed(
        {name: forward_record(each, place, batch=batch, dtype=dtype, mode=mode) for name, each in times.items()}
    )
