"""The entries of the zoo by name: listed, shown, and downloaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from zoo.cards import Card, check_name_text, find_name, name_stem
from zoo.errors import ZooError
from zoo.store import mirrors
from zoo.store.entries import Entries
from zoo.store.folders import cache_dir, clone_mirror, entry_folders, is_downloaded
from zoo.store.save import copy_entry
from zoo.store.short_names import keep_name, kept_names
from zoo.store.transaction import card_in, entry_lock
from zoo.store.verify import DamagedError, verified_path
from zoo.transfer import local_path, offline, quarantine
from zoo.utils import sha256_of

_LOG = logging.getLogger("zoo")
T = TypeVar("T")
C = TypeVar("C")
Mirrors = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def cards(mirror: Mirrors = ()) -> Entries:
    """The cards of all entries by full name, sorted: shipped, own, downloaded, and those of the given mirrors.

    Of several entries with one name the first in this order counts. A card is read when it is asked for; one that
    cannot be used, and a mirror that cannot be reached, are left out with a warning that says why.
    """
    return Entries(mirrors.configured_mirrors(mirror))


def list_models(pattern: str | None = None) -> list[str]:
    """The names of all entries on this machine, sorted, or of those that a pattern like ``dgcnn*`` matches.

    The pattern is compared with each name with and without its data set: ``*-0.5x`` matches ``dgcnn-0.5x.shapes``.
    """
    if pattern is not None:
        check_name_text(pattern)
    return cards().matching("*" if pattern is None else pattern)


def info(name: str, *, mirror: Mirrors = ()) -> Card:
    """The card of an entry on this machine, or else of one on the given mirrors.

    A name without a data set means a shipped entry, or else one of the user's own, or else a downloaded one, or else
    one of the mirrors; of several the one on the most difficult data set.

    Raises:
        ZooError: there is no such entry; names near ones.
    """
    return _find(name, cards(mirror))


def download(
    name: str, *, to: str | Path | None = None, mirror: Mirrors | None = None, overwrite: bool = False
) -> Path:
    """Make sure that an entry's checkpoint is on this machine, verified, and return its path.

    An entry on this machine (shipped, own or downloaded before) is not downloaded again; a name without a data set is
    looked up here first. Otherwise the mirrors are tried in order: the given ones, or those of ``ZOO_MIRROR``, without
    those on the network if ``ZOO_OFFLINE`` is set. A downloaded file that is damaged is set aside and downloaded again.

    to         a folder that checkpoint and card are copied to; the path in this folder is returned
    overwrite  replace another entry of that name in the folder ``to``

    Raises:
        ZooError: there is no such entry, no mirror gives it (with the reason of each), the file is damaged, or the
            folder cannot be written to.
    """
    return fetch(name, to=to, mirror=mirror, overwrite=overwrite)[0]


def fetch(
    name: str, *, to: str | Path | None = None, mirror: Mirrors | None = None, overwrite: bool = False
) -> tuple[Path, Card]:
    """The path and the card that `download` provides."""
    check_name_text(name)
    bases = mirrors.configured_mirrors(mirror)
    if to is None:
        return _local_or_downloaded(name, bases)
    folder = local_path(to)

    def copied(path: Path, card: Card) -> tuple[Path, Card]:
        copy_entry(path, card, folder, overwrite=overwrite)
        return folder / card.saved.name, card

    return reading(lambda: _local_or_downloaded(name, bases), copied)


def reading(find: Callable[[], tuple[Path, C]], use: Callable[[Path, C], T]) -> T:
    """What ``use`` makes of the checkpoint and the card that ``find`` gives, such as `fetch` or `checkpoint_at`.

    Both are called again where another process replaced the entry after it was found.
    """
    while True:
        path, card = find()
        try:
            return use(path, card)
        except (ZooError, OSError):
            if path.exists():
                raise


def find(name: str, *, mirror: Mirrors | None = None) -> Card:
    """The card of the entry that `fetch` would give, without its checkpoint.

    Raises:
        ZooError: there is no such entry; or as `zoo.store.mirrors.download_from`.
    """
    check_name_text(name)
    try:
        return _find(name, cards())
    except ZooError:
        if not (bases := mirrors.configured_mirrors(mirror)):
            raise
        return mirrors.find_card(name, bases)


def _find(name: str, entries: Entries) -> Card:
    check_name_text(name)
    try:
        return entries.find_or_raise(name)
    except ZooError as error:
        if (how := mirrors.how_to_get(name, [*clone_mirror(), *mirrors.configured_mirrors()])) is None:
            raise
        raise ZooError(f"no model {name!r} on this machine, but {how}") from error


def _local_or_downloaded(name: str, bases: Sequence[str]) -> tuple[Path, Card]:
    path, card = _local(name, bases)
    if path is not None and card is not None:
        return path, card
    if card is not None and not is_downloaded(card.name):
        # The card is on this machine for good, so that only the very checkpoint that it describes will do.
        return mirrors.download_from(card.name, bases, cache_dir(), expected=card)
    path, new = add_from(name if card is None else card.name, bases)
    if card is not None and card.saved != new.saved:
        _LOG.warning("the mirror's %s is another one than was downloaded before, and takes its place", card.name)
    return path, new


def _local(name: str, bases: Sequence[str]) -> tuple[Path | None, Card | None]:
    """The verified checkpoint and the card of an entry on this machine; None for what is to be had from mirrors."""
    while True:
        try:
            card = _find(name, cards())
        except ZooError as error:
            if bases:
                return None, None
            raise (ZooError(f"{error}; {mirrors.how_to_carry(name)}") if offline() else error) from None
        try:
            return verified_path(card), card
        except DamagedError as error:
            if not bases or error.path.parent != cache_dir():
                raise
            _set_aside(error.path, card)
            return None, card
        except ZooError:  # there is no checkpoint
            if not any(card_in(folder, card.name) == card for folder in entry_folders().values()):
                continue  # any more: another process has replaced or removed the entry
            if not bases:
                raise
            return None, card


def add_from(name: str, bases: Sequence[str]) -> tuple[Path, Card]:
    """Download an entry from the first mirror that gives it, and add it to the downloaded ones, where it replaces an
    older one of its name. Raises ZooError as `zoo.store.mirrors.download_from`.

    Short names go on meaning what they meant before; where another rule would give this one to the new entry, a warning
    says so.
    """
    return mirrors.download_from(name, bases, cache_dir(), before_adding=_keep_short_name)


def _keep_short_name(card: Card) -> None:
    entries, stem = cards(), name_stem(card.name)
    before = entries.meaning(stem)
    if before is not None and card.name not in entries.names():
        both = {before, card.name}
        if card.name in (find_name(stem, both), find_name(stem, both, preferred=kept_names())):
            _LOG.warning("%s still means %s: for what was added write the full name, %s", stem, before, card.name)
            if is_downloaded(before):
                keep_name(before)


def _set_aside(path: Path, card: Card) -> None:
    with entry_lock(cache_dir(), card.name):
        # Another process may have replaced the damaged file meanwhile.
        if path.is_file() and (sha256 := sha256_of(path)) != card.saved.sha256:
            _LOG.warning("%s is damaged: set aside as %s, fetching it again", path, quarantine(path, sha256))
