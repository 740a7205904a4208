"""Conditions that a card meets or not, each with the sentence to say where no card at all meets it.

Words are patterns like ``dgcnn*``, in small letters or capitals alike. A card that does not state a number meets no
condition on it: what was not measured is not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from zoo.cards import Card, parse_name
from zoo.errors import suggest


class Condition(NamedTuple):
    """``complaint`` gets all the cards, none of which meets the condition."""

    meets: Callable[[Card], bool]
    complaint: Callable[[Iterable[Card]], str]


def matches(words: Iterable[str], pattern: str) -> bool:
    """Whether any of the words is what the pattern describes."""
    return any(fnmatchcase(word.lower(), pattern.lower()) for word in words)


def called(pattern: str) -> Condition:
    """The entry's name, with or without its data set, is such a one."""

    def complaint(cards: Iterable[Card]) -> str:
        # A name without a data set is compared with names without one, or the ending would drown a small slip.
        _, dot, last = pattern.rpartition(".")
        whole = dot and last[:1].isalpha()
        near = {card.name if whole else parse_name(card.name).stem for card in cards}
        return f"no entry matches {pattern!r}: {suggest(pattern.lower(), near)}"

    return Condition(lambda card: matches(with_stem(card.name), pattern), complaint)


def word(what: str, words: Callable[[Card], tuple[str, ...]], pattern: str, *, beginning: bool = False) -> Condition:
    """One of the card's words is such a one; ``what`` follows "no entry".

    With ``beginning`` it, or one of its parts between blanks, need only begin so.
    """

    def meets(card: Card) -> bool:
        if beginning:
            return matches((part for each in words(card) for part in (each, *each.split())), f"{pattern}*")
        return matches(words(card), pattern)

    def complaint(cards: Iterable[Card]) -> str:
        known = {word for card in cards for word in words(card)}
        return f"no entry {what} {pattern!r}: {suggest(pattern, known) if known else 'no card names any'}"

    return Condition(meets, complaint)


def least(
    what: str, number: Callable[[Card], float | None], bound: float, written: Callable[[float], str]
) -> Condition:
    """The card's number is the bound or more."""

    def meets(card: Card) -> bool:
        return (found := number(card)) is not None and found >= bound

    return Condition(meets, lambda cards: _out_of_reach(what, f"{written(bound)} or more", number, written, cards, max))


def most(what: str, number: Callable[[Card], float | None], bound: float, written: Callable[[float], str]) -> Condition:
    """The card's number is the bound or less."""

    def meets(card: Card) -> bool:
        return (found := number(card)) is not None and found <= bound

    return Condition(meets, lambda cards: _out_of_reach(what, f"{written(bound)} or less", number, written, cards, min))


def with_stem(name: str | None) -> tuple[str, ...]:
    """A name with and without its data set: ``*-0.5x`` describes ``dgcnn-0.5x.shapes``."""
    return () if name is None else (name, parse_name(name).stem)


def _out_of_reach(
    what: str,
    wanted: str,
    number: Callable[[Card], float | None],
    written: Callable[[float], str],
    cards: Iterable[Card],
    nearest: Callable[[list[tuple[float, str]]], tuple[float, str]],
) -> str:
    known = [(found, card.name) for card in cards if (found := number(card)) is not None]
    if not known:
        return f"no entry has {what} of {wanted}: no card states any"
    found, name = nearest(known)
    return f"no entry has {what} of {wanted}: the nearest is {name} with {written(found)}"
