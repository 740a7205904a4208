"""Cards as text for people: the table of `zoo list` and the page of `zoo info`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from zoo.cards import LICENCE_TITLES, Accuracy, Card, Forward
from zoo.display.columns import COLUMNS, USUAL
from zoo.display.format import interval, percent, quantity, speedup, table
from zoo.display.words import what_it_cost, what_it_is

_TIMED = ("forward", "torch", "batch", "type", "mode", "speed-up", "median", "95 %")


def card_table(cards: Mapping[str, Card], columns: Sequence[str] = USUAL, *, families: bool = True) -> str:
    """One line per entry: with ``families`` children indented right under their parents, else in the order given."""
    chosen = [COLUMNS[name] for name in columns]
    lines = _families(cards) if families else ((card, 0) for card in cards.values())
    rows = []
    for card, depth in lines:
        texts = [column.text(card) for column in chosen]
        rows.append(["  " * depth + t if name == "name" else t for name, t in zip(columns, texts, strict=True)])
    return table([[column.title for column in chosen], *rows])


def card_page(card: Card, known: Mapping[str, Card], places: Iterable[str] = (), *, shipped: bool = False) -> str:
    """The card as a page; ``known`` holds the parent's card if that is on this machine too. The name of an entry that
    is ``shipped`` is not free: making it again needs another folder."""
    parent = card.parent_in(known)
    anew = parent is None and card.parent in known
    parts = [
        "\n".join(filter(None, (what_it_is(card), what_it_cost(card, parent)))),
        table(list(_beside(card, parent, "parent, made anew since" if anew else "parent"))),
        table([_TIMED, *map(_timing, card.forward)]) if card.forward else "",
        _again(card, shipped),
        "terms of use\n" + table([(f"  {LICENCE_TITLES[kind]}", text) for kind, text in vars(card.licences).items()]),
        table(
            [
                ("file", f"{card.saved.name}, {quantity(card.saved.size)}B"),
                *([("weights", card.saved.weights)] if card.saved.weights else []),
                ("sha256", card.saved.sha256),
                *(("place", place) for place in places),
            ]
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def _beside(card: Card, parent: Card | None, called: str) -> Iterator[tuple[str, ...]]:
    """The table of numbers, the parent's beside the entry's; a line that neither has is left out."""
    accuracy = card.parent_accuracy or (parent.accuracy if parent else None)
    split = f" on {card.accuracy.split}" if card.accuracy else ""
    lines = [
        ("", card.name, f"{card.parent} ({called})"),
        (f"accuracy{split}", _counted(card.accuracy), _counted(accuracy)),
        ("cross-entropy", _number(card.cross_entropy), _number(parent.cross_entropy if parent else None)),
    ]
    for title, field in (("parameters", "parameters"), ("MACs", "macs"), ("MACs (paper's count)", "macs_paper")):
        lines.append((title, _count(getattr(card, field)), _count(getattr(parent, field, None))))
    for group, width in card.widths.items():
        lines.append((f"width {group}", str(width), str(parent.widths.get(group, "")) if parent else ""))
    return (line if card.parent else line[:2] for line in lines if any(line[1 : 3 if card.parent else 2]))


def _again(card: Card, shipped: bool) -> str:
    """The command that makes the entry again, and what else its recipe says."""
    settings = [(f"  {k}", _plain(v)) for k, v in card.recipe.items() if k != "command" and v is not None]
    where = ", in another folder (it is shipped): add --out DIR" if shipped else ""
    return f"to make it again{where}\n  {card.recipe['command']}\n{table(settings)}".rstrip()


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


def _counted(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return ""
    return f"{percent(accuracy)} ({interval(accuracy)}), {accuracy.correct}/{accuracy.total}"


def _count(number: int | None) -> str:
    return "" if number is None else quantity(number)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
