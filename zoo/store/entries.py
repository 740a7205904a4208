"""The entries by name: those on this machine and those of the mirrors that a call names, and what a short name means.

A name costs the names of the files in the folders and one card, however many entries there are.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from zoo.cards import Card, check_name_text, find_name, name_stem, unknown_name
from zoo.errors import ZooError
from zoo.store import mirrors
from zoo.store.folders import DOWNLOADED, OWN, SHIPPED, card_names, entry_folders, warn_once
from zoo.store.short_names import kept_names
from zoo.store.verify import read_card
from zoo.transfer import redact

_LOG = logging.getLogger("zoo")
_WARNINGS = 20  # about cards that cannot be used


@dataclass(frozen=True)
class _Source:
    """A folder of `entry_folders` or a mirror: what it is called, the names of its entries, what reads their cards."""

    title: str
    names: set[str]
    read: Callable[[str], Card]


class Entries(Mapping[str, Card]):
    """The cards of all entries by full name, sorted: shipped, own, downloaded, and those of the given mirrors.

    Of several entries with one name the first in this order counts. A card is read when it is asked for, and once. One
    that cannot be used is as good as absent, as is a folder that cannot be read, or a mirror that cannot be reached; a
    warning says why.
    """

    def __init__(self, bases: Sequence[str] = (), titles: Collection[str] = (SHIPPED, OWN, DOWNLOADED)) -> None:
        """The entries of these mirrors and of those folders of `entry_folders` that ``titles`` names."""
        self._cards: dict[str, Card] = {}
        self._broken = 0
        self._local: dict[str, _Source] = {}
        for title, folder in entry_folders().items():
            try:
                names = card_names(folder) if title in titles else []
            except ZooError as error:
                warn_once(f"{error}: what is {title} is left out")
                continue
            self._local[title] = _Source(title, set(names), partial(_card_in, folder))
        self._mirrors: list[_Source] = []
        for base in bases:
            try:
                mirror = mirrors.open_mirror(base)
            except ZooError as error:
                _LOG.warning("%s is left out: %s", redact(base), error)
                continue
            self._mirrors.append(_Source(redact(base), set(mirror.cards), partial(mirrors.fetch_card, mirror)))

    def __getitem__(self, name: str) -> Card:
        if (known := self._cards.get(name)) is not None:
            return known
        for source in (*self._local.values(), *self._mirrors):
            if name not in source.names:
                continue
            try:
                card = self._cards[name] = source.read(name)
            except KeyError:
                source.names.remove(name)
            except ZooError as error:
                source.names.remove(name)
                self._warn(f"{name} of {source.title} is left out: {error}" if source in self._mirrors else str(error))
            else:
                return card
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.names() if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def names(self) -> list[str]:
        """The names of all entries, sorted, those among them whose cards may turn out to be unusable."""
        return sorted({name for source in (*self._local.values(), *self._mirrors) for name in source.names})

    def matching(self, pattern: str) -> list[str]:
        """The names that a pattern like ``dgcnn*`` matches with or without their data sets, sorted."""
        return [
            name
            for name in self.names()
            if (fnmatchcase(name, pattern) or fnmatchcase(name_stem(name), pattern)) and name in self
        ]

    def meaning(self, text: str) -> str | None:
        """The full name of the entry that ``text`` means; None if it means none.

        A full name means itself. A name without a data set means a shipped entry of that name, or else one of the
        user's own, or else a downloaded one, or else one of a mirror; of several the one on the most difficult data
        set. Of downloaded ones that came one after another it goes on meaning what it meant before (`kept_names`). So
        nothing that comes from elsewhere changes what a name means.
        """
        shipped, own, downloaded = (self._names(title) for title in (SHIPPED, OWN, DOWNLOADED))
        groups = [(shipped | own, shipped), (downloaded, kept_names() if downloaded else set())]
        groups += [(source.names, set()) for source in self._mirrors]
        return next((name for names, first in groups if (name := find_name(text, names, preferred=first))), None)

    def find(self, text: str) -> Card | None:
        """The card of the entry that ``text`` means; None if it means none."""
        check_name_text(text)
        while (name := self.meaning(text)) is not None:
            if (card := self.get(name)) is None:
                continue  # the card could not be used, and the text means another one
            for source in self._mirrors if name != text else ():
                if (other := find_name(text, {name, *source.names} - {text})) != name:
                    _LOG.warning("%s means %s: for the %s of %s write the full name", text, name, other, source.title)
            return card
        return None

    def find_or_raise(self, text: str) -> Card:
        """The card of the entry that ``text`` means. Raises ZooError where there is none; it names near ones."""
        if (card := self.find(text)) is None:
            raise ZooError(unknown_name(text, self.names()))
        return card

    def _names(self, title: str) -> set[str]:
        return self._local[title].names if title in self._local else set()

    def _warn(self, text: str) -> None:
        self._broken += 1
        if self._broken <= _WARNINGS:
            _LOG.warning("%s", text)
        if self._broken == _WARNINGS:
            _LOG.warning("there may be more such cards: zoo cache verify names all that are on this machine")


def _card_in(folder: Path, name: str) -> Card:
    """Raises KeyError where another process has removed the entry since the folder was listed."""
    path = folder / f"{name}.json"
    try:
        return read_card(path)
    except ZooError:
        if not os.path.lexists(path):
            raise KeyError(name) from None
        raise
