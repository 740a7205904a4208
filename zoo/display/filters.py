"""The filters of `zoo list`: conditions on cards, each with the sentence to print where no card meets it.

Patterns like ``dgcnn*`` ignore case. A card that does not state a number meets no condition on that number.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from zoo.cards import Card, parse_name
from zoo.errors import suggest


class Filter(NamedTuple):
    """A condition on a card; ``explain`` gets all cards, where none of them meets it, and names what is near."""

    accepts: Callable[[Card], bool]
    explain: Callable[[Collection[Card]], str]


def name_filter(pattern: str) -> Filter:
    """The name of the entry, with or without its data set, matches the pattern."""

    def explain(cards: Collection[Card]) -> str:
        # A name without a data set is compared with stems: next to a long ending a typing error would hardly count.
        _, dot, ending = pattern.rpartition(".")
        has_dataset = dot and ending[:1].isalpha()
        names = {card.name if has_dataset else parse_name(card.name).stem for card in cards}
        return f"no entry matches {pattern!r}: {suggest(pattern.lower(), names)}"

    return Filter(lambda card: matches_any(with_stem(card.name), pattern), explain)


def text_filter(
    description: str, texts_of: Callable[[Card], Iterable[str]], pattern: str, *, prefix: bool = False
) -> Filter:
    """One of the card's texts matches the pattern; with ``prefix``, one of its words need only begin so.

    description  what the explanation says after "no entry", such as "was trained on"
    """

    def accepts(card: Card) -> bool:
        texts = list(texts_of(card))
        if prefix:
            return matches_any((part for text in texts for part in (text, *text.split())), f"{pattern}*")
        return matches_any(texts, pattern)

    def explain(cards: Collection[Card]) -> str:
        existing = {text for card in cards for text in texts_of(card)}
        return f"no entry {description} {pattern!r}: {suggest(pattern, existing) if existing else 'no card names any'}"

    return Filter(accepts, explain)


def bound_filter(
    description: str, value_of: Callable[[Card], float | None], bound: float, text: Callable[[float], str],
    *, smallest: bool = False,
) -> Filter:  # fmt: skip
    """The card's value is ``bound`` or less, with ``smallest`` or more; ``text`` writes a value for the explanation."""
    compare, direction, nearest = (operator.ge, "more", max) if smallest else (operator.le, "less", min)

    def accepts(card: Card) -> bool:
        return (value := value_of(card)) is not None and compare(value, bound)

    def explain(cards: Collection[Card]) -> str:
        stated = [(value, card.name) for card in cards if (value := value_of(card)) is not None]
        hint = "no card states any"
        if stated:
            value, name = nearest(stated)
            hint = f"the nearest is {name} with {text(value)}"
        return f"no entry has {description} of {text(bound)} or {direction}: {hint}"

    return Filter(accepts, explain)


def matches_any(texts: Iterable[str], pattern: str) -> bool:
    """Whether the pattern matches one of the texts."""
    return any(fnmatchcase(text.lower(), pattern.lower()) for text in texts)


def with_stem(name: str | None) -> tuple[str, ...]:
    """A name with and without its data set; nothing for None."""
    return () if name is None else (name, parse_name(name).stem)
