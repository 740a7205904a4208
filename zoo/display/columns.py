"""The columns of `zoo list`: what each shows of a card, and what the list is sorted by.

Only the count of convolutions and linear layers is a column; the paper's count stands on the page of `zoo info`,
because the two never stand in one table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from zoo.cards import Card, Forward
from zoo.display.format import circumstances, interval, percent, quantity
from zoo.errors import ZooError, suggest


class Column(NamedTuple):
    """``value`` sorts, ``text`` is shown; None and the empty text stand for what the card does not state."""

    title: str
    value: Callable[[Card], float | str | None]
    text: Callable[[Card], str]


def milliseconds(card: Card) -> float | None:
    """The least median time of a forward pass that the card states, whatever the device and batch."""
    return record.median_ms if (record := _fastest(card)) else None


def gain(card: Card) -> Forward | None:
    """The card's first timing that was measured beside the parent."""
    return next((record for record in card.forward if record.ratio is not None), None)


def _fastest(card: Card) -> Forward | None:
    timed = [(record.median_ms, at) for at, record in enumerate(card.forward) if record.median_ms is not None]
    return card.forward[min(timed)[1]] if timed else None


def _accuracy(card: Card) -> str:
    return f"{percent(card.accuracy)} ({interval(card.accuracy)})" if card.accuracy else ""


def _speedup(card: Card) -> str:
    record = gain(card)
    return f"{record.ratio:.2f}x ({circumstances(record)})" if record else ""


def _ms(card: Card) -> str:
    record = _fastest(card)
    return f"{record.median_ms:.3f} ({circumstances(record)})" if record else ""


def _text(title: str, value: Callable[[Card], str | None]) -> Column:
    return Column(title, value, lambda card: value(card) or "")


def _count(title: str, value: Callable[[Card], int | None]) -> Column:
    def text(card: Card) -> str:
        number = value(card)
        return "" if number is None else quantity(number)

    return Column(title, value, text)


COLUMNS = {
    "name": _text("name", lambda card: card.name),
    "arch": _text("arch", lambda card: card.arch),
    "dataset": _text("data set", lambda card: card.dataset),
    "task": _text("task", lambda card: card.task),
    "classes": _count("classes", lambda card: card.num_classes),
    "accuracy": Column(
        "accuracy (95 % interval)", lambda card: card.accuracy.share if card.accuracy else None, _accuracy
    ),
    "split": _text("split", lambda card: card.accuracy.split if card.accuracy else None),
    "cross-entropy": Column(
        "cross-entropy",
        lambda card: card.cross_entropy,
        lambda card: "" if card.cross_entropy is None else f"{card.cross_entropy:.4f}",
    ),
    "params": _count("params", lambda card: card.parameters),
    "macs": _count("MACs", lambda card: card.macs),
    "size": Column("size", lambda card: card.saved.size, lambda card: f"{quantity(card.saved.size)}B"),
    "parent": _text("parent", lambda card: card.parent),
    "speed-up": Column("speed-up", lambda card: record.ratio if (record := gain(card)) else None, _speedup),
    "ms": Column("ms", milliseconds, _ms),
    "licence": _text("licence of the weights", lambda card: card.licences.weights),
}
USUAL = ("name", "dataset", "accuracy", "params", "macs", "parent", "speed-up")


def parse_columns(text: str) -> tuple[str, ...]:
    """The columns that a text like ``name,accuracy,macs`` names, in its order.

    Raises:
        ZooError: it names one that is none (suggests near ones), or none at all.
    """
    chosen = tuple(word.strip().lower() for word in text.split(",") if word.strip())
    for word in chosen:
        if word not in COLUMNS:
            raise ZooError(f"there is no column {word!r}: {suggest(word, COLUMNS)}")
    if not chosen:
        raise ZooError(f"{text!r} names no column: write some of {','.join(COLUMNS)}")
    return chosen
