"""Which entries `zoo list` shows, and in which order. Works on cards alone, without torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter

from zoo.cards import Card, Forward
from zoo.display.columns import COLUMNS, fastest_ms
from zoo.display.filters import Filter, bound_filter, matches_any, name_filter, text_filter, with_stem
from zoo.display.format import percent, quantity
from zoo.errors import ZooError, suggest


@dataclass(frozen=True, kw_only=True)
class Query:
    """Filters and an order for cards; a field of None filters nothing.

    ``Query(arch="dgcnn", max_macs=1e9, sort="-accuracy").select(zoo.store.cards())``

    pattern  patterns of names, one of which must match
    min_acc  in percent, or as a fraction up to 1; of the accuracy as it is shown, with one decimal
    device   only timings on such a device count, for ``max_ms`` and the order too; the pattern is compared with
             ``cuda: NVIDIA H200`` and with both of its parts
    sort     a column of `zoo.display.COLUMNS`, in descending order with a ``-`` before it; entries without a value come
             last in both orders, and equal ones are sorted by name

    Raises:
        ZooError: a number is negative, NaN or infinite, or there is no such column.
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
        if self.sort is not None and (column := self._sort_column) not in COLUMNS:
            raise ZooError(f"there is no column {column!r} to sort by: {suggest(column, COLUMNS)}")

    def select(self, cards: Mapping[str, Card]) -> dict[str, Card]:
        """The cards that meet all conditions, by name and in the order of the query, or else in their own order."""
        names, filters = [name_filter(pattern) for pattern in self.pattern], self._filters()
        selected = [
            card
            for card in cards.values()
            if all(f.accepts(card) for f in filters) and (not names or any(f.accepts(card) for f in names))
        ]
        return {card.name: card for card in (selected if self.sort is None else self._sorted(selected))}

    def remarks(self, cards: Mapping[str, Card]) -> list[str]:
        """A sentence for each condition that no card meets, with what is near; one if they only fail together."""
        filters = [*map(name_filter, self.pattern), *self._filters()]
        failed = [f for f in filters if not any(f.accepts(card) for card in cards.values())]
        if not failed and not self.select(cards):
            return ["no entry meets all of these conditions: leave some of them out"]
        return [f.explain(cards.values()) for f in failed]

    def view(self, card: Card) -> Card:
        """The card with only those of its timings that were taken on the query's device."""
        if self.device is None:
            return card
        return replace(card, forward=tuple(r for r in card.forward if matches_any(_device_names(r), self.device)))

    @property
    def _sort_column(self) -> str:
        return (self.sort or "").removeprefix("-").lower()

    def _filters(self) -> list[Filter]:
        """One filter for each field that is set, without those of ``pattern``."""
        texts: tuple[tuple[str | None, str, Callable[[Card], Iterable[str]]], ...] = (
            (self.arch, "is a network of the kind", lambda card: (card.arch,)),
            (self.dataset, "was trained on", lambda card: (card.dataset,)),
            (self.device, "was timed on", lambda card: [name for r in card.forward for name in _device_names(r)]),
            (self.parent, "comes from", lambda card: (*with_stem(card.parent), *with_stem(_finetuned_from(card)))),
            (self.licence, "has the licence", lambda card: vars(card.licences).values()),
        )
        filters = [text_filter(what, texts_of, pattern) for pattern, what, texts_of in texts if pattern is not None]
        if self.task is not None:
            filters.append(text_filter("is for", lambda card: (card.task,), self.task, prefix=True))
        if self.min_acc is not None:
            # Rounded, because 1.1 / 100 is above 11 / 1000 in floating point.
            bound = self.min_acc if self.min_acc <= 1 else round(self.min_acc / 100, 12)
            filters.append(bound_filter("an accuracy", _accuracy, bound, lambda x: f"{100 * x:.4g} %", smallest=True))
        on_device = f" on {self.device!r}" if self.device else ""
        maxima: tuple[tuple[float | None, str, Callable[[Card], float | None], Callable[[float], str]], ...] = (
            (self.max_params, "a number of parameters", lambda card: card.parameters, quantity),
            (self.max_macs, "a number of MACs", lambda card: card.macs, quantity),
            (self.max_ms, f"a forward time{on_device}", lambda c: fastest_ms(self.view(c)), lambda x: f"{x:.4g} ms"),
        )
        return filters + [bound_filter(what, of, bound, text) for bound, what, of, text in maxima if bound is not None]

    def _sorted(self, cards: list[Card]) -> list[Card]:
        value_of, descending = COLUMNS[self._sort_column].value, (self.sort or "").startswith("-")
        keyed = [(value_of(self.view(card)), card) for card in sorted(cards, key=lambda card: card.name)]
        stated = [(key, card) for key, card in keyed if key is not None]
        stated.sort(key=itemgetter(0), reverse=descending)
        return [card for _, card in stated] + [card for key, card in keyed if key is None]


def _accuracy(card: Card) -> float | None:
    """The share of right answers, or what the table shows of it if that is more: 92.95 % is shown as 93.0 %."""
    if card.accuracy is None:
        return None
    return max(card.accuracy.share, round(float(percent(card.accuracy).removesuffix(" %")) / 100, 12))


def _finetuned_from(card: Card) -> str | None:
    """The entry whose weights were trained further, which need not be the parent."""
    start = card.recipe.get("start")
    return None if start is None else str(start)


def _device_names(record: Forward) -> tuple[str, ...]:
    """The texts that a device pattern is compared with: ``cuda: NVIDIA H200``, ``cuda`` and ``NVIDIA H200``."""
    kind, _, model = record.device.partition(":")
    return (record.device, kind, model.strip()) if model.strip() else (kind,)
