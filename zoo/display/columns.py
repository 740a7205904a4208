"""The columns of `zoo list`: the text that each shows of a card, and the value that the list is sorted by.

MACs are those of convolutions and linear layers. The paper's count is not a column, because the two counts never stand
in one table: `zoo info` shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from zoo.cards import Card, Forward
from zoo.display.format import interval, percent, quantity, timing_setup
from zoo.errors import ZooError, suggest


class Column(NamedTuple):
    """Title, value to sort by and text to show; None and the empty text where the card does not state the value."""

    title: str
    value: Callable[[Card], float | str | None]
    text: Callable[[Card], str]


def fastest_ms(card: Card) -> float | None:
    """The smallest median time of a forward pass on the card, over all devices and batch sizes."""
    return record.median_ms if (record := _fastest(card)) else None


def _first_speedup(card: Card) -> Forward | None:
    """The card's first timing that was measured beside the parent."""
    return next((record for record in card.forward if record.ratio is not None), None)


def _fastest(card: Card) -> Forward | None:
    timed = [(record.median_ms, index) for index, record in enumerate(card.forward) if record.median_ms is not None]
    return card.forward[min(timed)[1]] if timed else None


def _accuracy(card: Card) -> str:
    return f"{percent(card.accuracy)} ({interval(card.accuracy)})" if card.accuracy else ""


def _speedup(card: Card) -> str:
    record = _first_speedup(card)
    return f"{record.ratio:.2f}x ({timing_setup(record)})" if record else ""


def _ms(card: Card) -> str:
    record = _fastest(card)
    return f"{record.median_ms:.3f} ({timing_setup(record)})" if record else ""


def _text_column(title: str, value: Callable[[Card], str | None]) -> Column:
    return Column(title, value, lambda card: value(card) or "")


def _count_column(title: str, value: Callable[[Card], int | None]) -> Column:
    return Column(title, value, lambda card: quantity(value(card)))


COLUMNS = {
    "name": _text_column("name", lambda card: card.name),
    "arch": _text_column("arch", lambda card: card.arch),
    "dataset": _text_column("data set", lambda card: card.dataset),
    "task": _text_column("task", lambda card: card.task),
    "classes": _count_column("classes", lambda card: card.num_classes),
    "accuracy": Column(
        "accuracy (95 % interval)", lambda card: card.accuracy.share if card.accuracy else None, _accuracy
    ),
    "split": _text_column("split", lambda card: card.accuracy.split if card.accuracy else None),
    "cross-entropy": Column(
        "cross-entropy",
        lambda card: card.cross_entropy,
        lambda card: "" if card.cross_entropy is None else f"{card.cross_entropy:.4f}",
    ),
    "params": _count_column("params", lambda card: card.parameters),
    "macs": _count_column("MACs", lambda card: card.macs),
    "size": Column("size", lambda card: card.saved.size, lambda card: f"{quantity(card.saved.size)}B"),
    "parent": _text_column("parent", lambda card: card.parent),
    "speed-up": Column("speed-up", lambda card: record.ratio if (record := _first_speedup(card)) else None, _speedup),
    "ms": Column("ms", fastest_ms, _ms),
    "licence": _text_column("licence of the weights", lambda card: card.licences.weights),
}
DEFAULT_COLUMNS = ("name", "dataset", "accuracy", "params", "macs", "parent", "speed-up")


def parse_columns(text: str) -> tuple[str, ...]:
    """The names of columns in a text like ``name,accuracy,macs``, in its order.

    Raises:
        ZooError: there is no such column (names near ones), or the text names none.
    """
    names = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for name in names:
        if name not in COLUMNS:
            raise ZooError(f"there is no column {name!r}: {suggest(name, COLUMNS)}")
    if not names:
        raise ZooError(f"{text!r} names no column: write some of {','.join(COLUMNS)}")
    return names
