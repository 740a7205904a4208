"""Which entries `zoo list` shows and in which order. Works on cards alone, without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter

from zoo.cards import Card, Forward
from zoo.display.columns import COLUMNS, milliseconds
from zoo.display.filters import Condition, called, least, matches, most, with_stem, word
from zoo.display.format import quantity
from zoo.errors import ZooError, suggest


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked for; what is None asks for nothing.

    ``Query(arch="dgcnn", max_macs=1e9, sort="-accuracy").select(zoo.store.cards())`` gives what it says.
    ``pattern`` holds patterns of names, any of which may match. ``min_acc`` is in percent, or a fraction up to 1.
    With ``device`` only timings on such a device count, also for ``max_ms`` and the order: it is held against
    ``cuda: NVIDIA H200`` and against both of its parts. ``sort`` is a column of `zoo.display.columns`, the greatest first
    with a ``-`` before it; entries without a value come last either way, and equal ones stand by name.

    Raises:
        ZooError: a number that is none, or a column that is unknown.
    """

    pattern: tuple[str, ...] = ()
    arch: str | None = None
    dataset: str | None = None
    task: str | None = None
    min_acc: float | None = None
    max_params: float | None = None
    max_macs: float | None = None
    max_ms: float | None = None
    device: str | None = None
    parent: str | None = None
    licence: str | None = None
    sort: str | None = None

    def __post_init__(self) -> None:
        for name in ("min_acc", "max_params", "max_macs", "max_ms"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ZooError(f"{name.replace('_', '-')} is {value}: it must be a number from 0 up")
        if self.min_acc is not None and self.min_acc > 100:
            raise ZooError(f"min-acc is {self.min_acc:g}: write percent, as 84.5, or a fraction, as 0.845")
        if self.sort is not None and self._column not in COLUMNS:
            raise ZooError(f"there is no column {self._column!r} to sort by: {suggest(self._column, COLUMNS)}")

    def select(self, cards: Mapping[str, Card]) -> dict[str, Card]:
        """The cards that are asked for by their names, in the order asked for, or as they came."""
        patterns, conditions = [called(pattern) for pattern in self.pattern], self._conditions()
        chosen = [
            card
            for card in cards.values()
            if all(each.meets(card) for each in conditions)
            and (not patterns or any(each.meets(card) for each in patterns))
        ]
        return {card.name: card for card in (chosen if self.sort is None else self._sorted(chosen))}

    def remarks(self, cards: Mapping[str, Card]) -> list[str]:
        """A sentence for each condition that no card meets, naming what is near, or one if only all together fail."""
        conditions = [*map(called, self.pattern), *self._conditions()]
        failed = [each for each in conditions if not any(each.meets(card) for card in cards.values())]
        if not failed and not self.select(cards):
            return ["no entry meets all of these conditions: leave some of them out"]
        return [each.complaint(cards.values()) for each in failed]

    def view(self, card: Card) -> Card:
        """The card with those timings alone that count here: on such a device as is asked for."""
        if self.device is None:
            return card
        kept = tuple(record for record in card.forward if matches(_called(record), self.device))
        return replace(card, forward=kept)

    @property
    def _column(self) -> str:
        return (self.sort or "").removeprefix("-").lower()

    def _conditions(self) -> list[Condition]:
        """One for each thing that is asked for but the name."""
        words: tuple[tuple[str | None, str, Callable[[Card], tuple[str, ...]]], ...] = (
            (self.arch, "is a network of the kind", lambda card: (card.arch,)),
            (self.dataset, "was trained on", lambda card: (card.dataset,)),
            (self.device, "was timed on", lambda card: tuple(name for each in card.forward for name in _called(each))),
            (self.parent, "comes from", lambda card: (*with_stem(card.parent), *with_stem(_start(card)))),
            (self.licence, "has the licence", lambda card: tuple(vars(card.licences).values())),
        )
        found = [word(what, of, pattern) for pattern, what, of in words if pattern is not None]
        if self.task is not None:
            found.append(word("is for", lambda card: (card.task,), self.task, beginning=True))
        if self.min_acc is not None:
            share = self.min_acc if self.min_acc <= 1 else round(self.min_acc / 100, 12)  # 1.1 / 100 > 11 / 1000
            found.append(least("an accuracy", _share, share, lambda x: f"{100 * x:.4g} %"))
        if self.max_params is not None:
            found.append(most("a number of parameters", lambda card: card.parameters, self.max_params, quantity))
        if self.max_macs is not None:
            found.append(most("a number of MACs", lambda card: card.macs, self.max_macs, quantity))
        if self.max_ms is not None:
            what = "a forward time" + (f" on {self.device!r}" if self.device else "")
            found.append(most(what, lambda card: milliseconds(self.view(card)), self.max_ms, lambda x: f"{x:.4g} ms"))
        return found

    def _sorted(self, cards: list[Card]) -> list[Card]:
        value, down = COLUMNS[self._column].value, (self.sort or "").startswith("-")
        keyed = [(value(self.view(card)), card) for card in sorted(cards, key=lambda card: card.name)]
        known = sorted(((key, card) for key, card in keyed if key is not None), key=itemgetter(0), reverse=down)
        return [card for _, card in known] + [card for key, card in keyed if key is None]


def _share(card: Card) -> float | None:
    return card.accuracy.share if card.accuracy else None


def _start(card: Card) -> str | None:
    """The entry whose weights were trained further, which need not be the parent."""
    start = card.recipe.get("start")
    return None if start is None else str(start)


def _called(record: Forward) -> tuple[str, ...]:
    """What a timing's device answers to: ``cuda: NVIDIA H200``, ``cuda`` and ``NVIDIA H200``."""
    kind, _, model = record.device.partition(":")
    return (record.device, kind, model.strip()) if model.strip() else (kind,)
