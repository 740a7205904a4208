"""Writing an entry into a folder, so that a kill leaves the entry before or the entry after.

A checkpoint is written before its card, and its file name holds the beginning of its SHA-256. So the entry appears, or
changes, in the one moment in which its card is renamed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from zoo.cards import Card
from zoo.errors import ZooError
from zoo.store.folders import is_file, is_shipped, user_dir
from zoo.store.verify import read_card, verify_file
from zoo.utils import new_file, sha256_of


def copy_entry(checkpoint: Path, card: Card, folder: Path | None = None, *, overwrite: bool = False) -> None:
    """Copy a checkpoint and its card into a folder, by default that of the user's own entries.

    An equal entry in the folder is left as it is.

    Raises:
        ZooError: the file is not the one that the card describes; or as `write_entry`.
    """
    verify_file(checkpoint, card)

    def write(out: BinaryIO) -> None:
        with open(checkpoint, "rb") as file:
            shutil.copyfileobj(file, out)

    write_entry(card, user_dir() if folder is None else folder, write, overwrite=overwrite)


def write_entry(card: Card, folder: Path, write: Callable[[BinaryIO], None], *, overwrite: bool = False) -> None:
    """Write an entry into a folder: the checkpoint by the function ``write``, then the card.

    A checkpoint that the replaced card named is removed.

    Raises:
        ZooError: the folder holds another entry of this name and ``overwrite`` is off; a shipped entry has the name;
            the folder cannot be written to.
    """
    card = Card.from_json(card.to_json())  # raises for a card that could not be read again
    card_file, checkpoint = folder / f"{card.name}.json", folder / card.saved.name
    old = _card_in(card_file)
    if old != card:
        _check_name_is_free(card.name, folder, overwrite=overwrite)
    if not (checkpoint.is_file() and sha256_of(checkpoint) == card.saved.sha256):
        with new_file(checkpoint) as out:
            write(out)
    if old == card:
        return
    with new_file(card_file) as out:
        out.write(card.to_json().encode())
    if old is not None and old.saved.name != checkpoint.name:
        (folder / old.saved.name).unlink(missing_ok=True)


def _card_in(card_file: Path) -> Card | None:
    """The card in a file; None if there is none, or a broken one, which may be replaced like another."""
    try:
        return read_card(card_file) if is_file(card_file) else None
    except ZooError:
        return None


def _check_name_is_free(name: str, folder: Path, *, overwrite: bool) -> None:
    if folder == user_dir() and is_shipped(name):
        raise ZooError(f"{name} is the name of an entry that is shipped and would hide yours; choose another name")
    if not overwrite and is_file(folder / f"{name}.json"):
        raise ZooError(
            f"{folder} holds an entry {name} already; choose another place or name, or replace it with `overwrite=True`"
        )
