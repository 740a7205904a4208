"""Numbers as text, and the table that compares a new entry with its parent."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.cards import Accuracy, Card, Forward
from zoo.errors import visible

_HEAD = ("network", "right", "accuracy", "95 % interval", "params", "MACs", "MACs (paper's count)", "speed-up")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines of text, each column as wide as its longest text; cells are `visible` and of one line."""
    cells = [[visible(text) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def quantity(n: float | None) -> str:
    """A count to four digits; empty for None.

    >>> quantity(300_774_272), quantity(1_814_000), quantity(512)
    ('300.8M', '1.814M', '512')
    """
    if n is None:
        return ""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if n >= size:
            return f"{n / size:.4g}{unit}"
    return f"{n:.4g}"


def percent(accuracy: Accuracy) -> str:
    return f"{100 * accuracy.share:.1f} %"


def interval(accuracy: Accuracy) -> str:
    """The 95 % interval in percent.

    >>> interval(Accuracy.of("test", 90, 100))
    '82.6-94.5'
    """
    return f"{100 * accuracy.low:.1f}-{100 * accuracy.high:.1f}"


def timing_setup(forward: Forward) -> str:
    """Device type and batch size of a timing: ``cpu, batch 8``."""
    return f"{forward.device.partition(':')[0]}, batch {forward.batch}"


def speedup(forward: Forward) -> str:
    """The ratio to the parent's time, with its range over the rounds of the run; empty if it was not measured.

    >>> timing = {"device": "cpu", "torch": "2", "batch": 8, "dtype": "float32", "mode": "eager"}
    >>> speedup(Forward(**timing, ratio=1.9, ratio_low=1.8, ratio_high=2.0))
    '1.90x (1.80 to 2.00)'
    """
    if forward.ratio is None:
        return ""
    spread = ""
    if forward.ratio_low is not None and forward.ratio_high is not None:
        spread = f" ({forward.ratio_low:.2f} to {forward.ratio_high:.2f})"
    return f"{forward.ratio:.2f}x{spread}"


def comparison_table(rows: Sequence[Sequence[str]]) -> str:
    """The rows of `comparison_row` under their titles, without the columns that are empty in all rows."""
    filled = [column for column in range(len(_HEAD)) if any(row[column] for row in rows)]
    return table([[line[column] for column in filled] for line in (_HEAD, *rows)])


def comparison_row(
    name: str,
    accuracy: Accuracy | None,
    parameters: int,
    macs: int | None,
    macs_paper: int | None,
    forward: Forward | None = None,
) -> tuple[str, ...]:
    """The row of one network: correct answers, accuracy and its interval, parameters, both counts of MACs, speed-up."""
    correct = share = interval = ""
    if accuracy is not None:
        correct, share = f"{accuracy.correct}/{accuracy.total}", f"{100 * accuracy.share:.2f} %"
        interval = f"{100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}"
    counts = map(quantity, (parameters, macs, macs_paper))
    setup = f", {timing_setup(forward)}" if forward and forward.ratio else ""
    return (name, correct, share, interval, *counts, speedup(forward) + setup if forward else "")


def card_row(card: Card) -> tuple[str, ...]:
    """The row of a card's network, with the first of its timings."""
    forward = card.forward[0] if card.forward else None
    return comparison_row(card.name, card.accuracy, card.parameters, card.macs, card.macs_paper, forward)
