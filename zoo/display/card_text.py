"""Cards as text for people: the table of `zoo list` and the page of `zoo info`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from zoo.cards import LICENCE_TITLES, Accuracy, Card, Forward
from zoo.display.columns import COLUMNS, DEFAULT_COLUMNS
from zoo.display.format import interval, percent, quantity, speedup, table
from zoo.display.sentences import describe, describe_cost, explain_name
from zoo.errors import excerpt

_WIDEST = 200  # characters of a cell; `zoo info` shows long terms of use whole
_MAX_INDENT = 10  # steps, so that a line of thousands of ancestors does not make every line as long
_SHOWN = 12  # names of classes on the page
_TIMING_HEAD = ("forward", "torch", "batch", "type", "mode", "speed-up", "median", "95 %")


def card_table(cards: Mapping[str, Card], columns: Sequence[str] = DEFAULT_COLUMNS, *, families: bool = True) -> str:
    """One line per entry, in the order of ``cards``; with ``families``, children stand indented under their parents."""
    chosen = [COLUMNS[name] for name in columns]
    lines = in_families(cards) if families else ((card, 0) for card in cards.values())
    rows = []
    for card, depth in lines:
        indent = "  " * min(depth, _MAX_INDENT)
        texts = [excerpt(column.text(card), str, _WIDEST) for column in chosen]
        rows.append([indent + t if name == "name" else t for name, t in zip(columns, texts, strict=True)])
    return table([[column.title for column in chosen], *rows])


def card_page(
    card: Card, cards: Mapping[str, Card], locations: Iterable[str] = (), *, shipped: bool = False,
    stated: Collection[str] = (),
) -> str:  # fmt: skip
    """The card as a page of text.

    cards      by name, the parent's among them if it is known
    locations  lines that say where the checkpoint is
    shipped    the entry comes with the package, so that its name is not free for the entry that is made again
    stated     the settings that the command on the card states, which are not repeated below it
    """
    parent = card.parent_in(cards)
    rebuilt = parent is None and card.parent in cards
    parts = [
        "\n".join(filter(None, (describe(card), describe_cost(card, parent), explain_name(card)))),
        _classes(card.class_names),
        table(list(_numbers(card, parent, "parent, rebuilt since" if rebuilt else "parent"))),
        table([_TIMING_HEAD, *map(_timing, card.forward)]) if card.forward else "",
        _recipe(card, shipped, stated),
        "terms of use\n" + table([(f"  {LICENCE_TITLES[kind]}", text) for kind, text in vars(card.licences).items()]),
        table(
            [
                ("file", f"{card.saved.name}, {quantity(card.saved.size)}B"),
                *([("weights", card.saved.weights)] if card.saved.weights else []),
                ("sha256", card.saved.sha256),
                *(("place", location) for location in locations),
            ]
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def _classes(names: Sequence[str] | None) -> str:
    """One line with the names of the classes, of many the first ones; nothing where they are not known."""
    if names is None:
        return ""
    more = f", ... ({len(names) - _SHOWN} more)" if len(names) > _SHOWN else ""
    return f"classes: {', '.join(names[:_SHOWN])}{more}"


def _numbers(card: Card, parent: Card | None, parent_title: str) -> Iterator[tuple[str, ...]]:
    """The rows of the table of numbers, the parent's beside the entry's, without rows that are empty for both."""
    # Numbers on other data are none to compare with.
    alike = parent if parent and (parent.dataset, parent.data_title) == (card.dataset, card.data_title) else None
    accuracy = card.parent_accuracy or (alike.accuracy if alike else None)
    split = f" on {card.accuracy.split}" if card.accuracy else ""
    lines = [
        ("", card.name, f"{card.parent} ({parent_title})"),
        (f"accuracy{split}", _counted(card.accuracy), _counted(accuracy)),
        ("cross-entropy", _number(card.cross_entropy), _number(alike.cross_entropy if alike else None)),
    ]
    for title, field in (("parameters", "parameters"), ("MACs", "macs"), ("MACs (paper's count)", "macs_paper")):
        lines.append((title, quantity(getattr(card, field)), quantity(getattr(parent, field, None))))
    for group, width in card.widths.items():
        lines.append((f"width {group}", str(width), str(parent.widths.get(group, "")) if parent else ""))
    return (line if card.parent else line[:2] for line in lines if any(line[1 : 3 if card.parent else 2]))


def _recipe(card: Card, shipped: bool, stated: Collection[str]) -> str:
    """The command that makes the entry again, and the other settings of its recipe."""
    others = {key: value for key, value in card.recipe.items() if key not in {"command", *stated} and value is not None}
    settings = [(f"  {key}", _setting(value)) for key, value in others.items()]
    where = ", in another folder (it is shipped): add --output-dir DIR" if shipped else ""
    return f"to make it again{where}\n  {card.recipe['command']}\n{table(settings)}".rstrip()


def in_families(cards: Mapping[str, Card]) -> Iterator[tuple[Card, int]]:
    """Every card with its depth below its topmost ancestor among the cards, children right after their parent."""
    children: dict[str | None, list[str]] = {}
    for name, card in cards.items():
        children.setdefault(card.parent if card.parent in cards else None, []).append(name)
    shown: set[str] = set()
    # All cards once more at the end, because those that name each other as parent hang below no root.
    waiting = [(name, 0) for name in reversed((*children.get(None, ()), *cards))]
    while waiting:  # not by recursion: a card from elsewhere may have thousands of ancestors
        name, depth = waiting.pop()
        if name not in shown:
            shown.add(name)
            yield cards[name], depth
            waiting += [(child, depth + 1) for child in reversed(children.get(name, ()))]


def _timing(record: Forward) -> tuple[str, ...]:
    times = ("" if ms is None else f"{ms:.3f} ms" for ms in (record.median_ms, record.p95_ms))
    return (record.device, record.torch, str(record.batch), record.dtype, record.mode, speedup(record), *times)


def _counted(accuracy: Accuracy | None) -> str:
    if accuracy is None:
        return ""
    return f"{percent(accuracy)} ({interval(accuracy)}), {accuracy.correct}/{accuracy.total}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _setting(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
