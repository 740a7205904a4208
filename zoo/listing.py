"""Cards as text for people: the table of `zoo list` and the page of `zoo info`.

Only the count of convolutions and linear layers stands in the table; the paper's count has a line of its own on the
page, because the two never stand in one column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from zoo.cards import Accuracy, Card, Forward
from zoo.report import quantity, speedup

_HEAD = ("name", "data set", "accuracy (95 % interval)", "params", "MACs", "parent", "speed-up")
_TIMED = ("forward", "torch", "batch", "type", "mode", "speed-up", "median", "95 %")


def overview(cards: Mapping[str, Card]) -> str:
    """One line per entry, children indented right under their parents."""
    return table([_HEAD, *(_row(card, depth) for card, depth in _families(cards))])


def story(card: Card, known: Mapping[str, Card]) -> str:
    """The card as a page; ``known`` holds the parent's card if that is on this machine too."""
    parent = known.get(card.parent) if card.parent else None
    columns = [("", card.name, *((f"{card.parent} (parent)",) if card.parent else ()))]

    def line(title: str, own: str, theirs: str) -> None:
        if own or theirs:
            columns.append((title, own, *((theirs,) if card.parent else ())))

    beside = card.parent_accuracy or (parent.accuracy if parent else None)
    split = f" on {card.accuracy.split}" if card.accuracy else ""
    line(f"accuracy{split}", _counted(card.accuracy), _counted(beside))
    line("cross-entropy", _number(card.cross_entropy), _number(parent.cross_entropy if parent else None))
    for title, field in (("parameters", "parameters"), ("MACs", "macs"), ("MACs (paper's count)", "macs_paper")):
        line(title, _count(getattr(card, field)), _count(getattr(parent, field, None)))
    for group, width in card.widths.items():
        line(f"width {group}", str(width), str(parent.widths.get(group, "")) if parent else "")
    shape = " x ".join(map(str, card.sample_shape))
    parts = [f"{card.name}: {card.arch} for the {card.num_classes} classes of {card.dataset}, one input is {shape}"]
    parts.append(table(columns))
    if card.forward:
        parts.append(table([_TIMED, *map(_timing, card.forward)]))
    recipe = [(key, _plain(value)) for key, value in card.recipe.items() if key != "command" and value is not None]
    parts.append(f"made by  {card.recipe['command']}\n{table([('  ' + k, v) for k, v in recipe])}".rstrip())
    terms = [(f"  {kind}", text) for kind, text in vars(card.licences).items()]
    parts.append("terms of use\n" + table(terms))
    parts.append(f"file     {card.saved.name}, {quantity(card.saved.size)}B\nsha256   {card.saved.sha256}")
    return "\n\n".join(part for part in parts if part)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines, every column as wide as its longest text."""
    if not rows:
        return ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _row(card: Card, depth: int) -> tuple[str, ...]:
    gain = _gain(card)
    return (
        "  " * depth + card.name,
        card.dataset,
        _percent(card.accuracy),
        _count(card.parameters),
        _count(card.macs),
        card.parent or "",
        _times(gain) if gain else "",
    )


def _families(cards: Mapping[str, Card]) -> Iterator[tuple[Card, int]]:
    """Every card with its depth, children right after their parent; a parent that is not there makes no family."""
    children: dict[str | None, list[str]] = {}
    for name, card in cards.items():
        children.setdefault(card.parent if card.parent in cards else None, []).append(name)
    shown: set[str] = set()

    def family(name: str, depth: int) -> Iterator[tuple[Card, int]]:
        if name not in shown:
            shown.add(name)
            yield cards[name], depth
            for child in children.get(name, ()):
                yield from family(child, depth + 1)

    # All of them again at the end: cards that name each other as parent hang on no root.
    for name in (*children.get(None, ()), *cards):
        yield from family(name, 0)


def _timing(record: Forward) -> tuple[str, ...]:
    times = ("" if ms is None else f"{ms:.3f} ms" for ms in (record.median_ms, record.p95_ms))
    return (record.device, record.torch, str(record.batch), record.dtype, record.mode, speedup(record), *times)


def _gain(card: Card) -> Forward | None:
    """The timing that the table shows: the first one that was measured beside the parent."""
    return next((record for record in card.forward if record.ratio is not None), None)


def _times(record: Forward) -> str:
    return f"{record.ratio:.2f}x ({record.device.split(':')[0]}, batch {record.batch})"


def _percent(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return ""
    return f"{100 * accuracy.share:.1f} % ({100 * accuracy.low:.1f}-{100 * accuracy.high:.1f})"


def _counted(accuracy: Accuracy | None) -> str:
    return f"{_percent(accuracy)}, {accuracy.correct}/{accuracy.total}" if accuracy else ""


def _count(number: int | None) -> str:
    return "" if number is None else quantity(number)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
