"""Deleting the user's own entries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from zoo.cards import MAX_CARD, Card, check_name_text, resolve_name
from zoo.errors import ZooError
from zoo.store.folders import card_files, entry_folders, is_shipped, is_user_entry, user_dir
from zoo.store.store import cards
from zoo.store.transaction import delete, entry_lock, recover
from zoo.store.verify import read_card
from zoo.utils import read_file


def user_entry_names() -> list[str]:
    """The names of the user's own entries, sorted."""
    return [path.stem for path in card_files(user_dir())]


def user_entries(names: Sequence[str]) -> list[Card]:
    """The cards of the user's own entries of these names, each once.

    Raises:
        ZooError: a name is that of a shipped or downloaded entry, or of none, or its card cannot be read.
    """
    own = user_entry_names()
    return [_card_of(name) for name in dict.fromkeys(_resolve(name, own) for name in names)]


def children_of(names: Sequence[str]) -> list[str]:
    """The names of the entries on this machine that were made from one of these, sorted.

    Only cards in whose text one of the names stands are read as cards: a zoo may have thousands.
    """
    quoted = [f'"{name}"'.encode() for name in names]
    found = set()
    for path in (path for folder in entry_folders().values() for path in card_files(folder)):
        with suppress(OSError, ZooError):
            text = read_file(path, limit=MAX_CARD)
            if any(name in text for name in quoted) and (card := Card.from_json(text)).parent in names:
                found.add(card.name)
    return sorted(found)


def remove(card: Card) -> list[Path]:
    """Delete an entry of the user's own and return the files that went.

    Raises:
        ZooError: the entry has become another one than that of the card, or a file cannot be deleted.
    """
    folder = user_dir()
    recover(folder)
    with entry_lock(folder, card.name):
        return delete(folder, card.name, expected=card)


def _card_of(name: str) -> Card:
    path = user_dir() / f"{name}.json"
    try:
        return read_card(path)
    except ZooError:
        if os.path.lexists(path):
            raise
        raise ZooError(f"no model {name!r}: another process has removed it") from None


def _resolve(name: str, own: Sequence[str]) -> str:
    check_name_text(name)
    try:
        return resolve_name(name, own)
    except ZooError as error:
        other = cards().meaning(name)
        if other is None:
            raise ZooError(str(error) if own else f"no model {name!r}: you have no entries of your own") from None
        if is_user_entry(other):  # another process has just made it
            return other
        how = "it came with the package" if is_shipped(other) else f"it was downloaded: type zoo cache clean {other}"
        raise ZooError(f"{other} is no entry of your own; {how}") from None
