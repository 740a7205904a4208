"""Writing an entry into a folder, whole or not at all (`zoo.store.transaction`)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from zoo.cards import Card
from zoo.errors import ZooError
from zoo.store.folders import is_file, is_shipped, user_dir
from zoo.store.transaction import card_in, entry_lock, is_complete, recover, replacing
from zoo.store.verify import verify_file
from zoo.utils import new_file, sha256_of


class NameTakenError(ZooError):
    """A folder has another entry of the name."""


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

    A checkpoint that the replaced card named is removed. Of several processes one writes at a time.

    Raises:
        NameTakenError: the folder holds another entry of this name and ``overwrite`` is off.
        ZooError: a shipped entry has the name, or the folder cannot be written to.
    """
    card = Card.from_json(card.to_json())  # raises for a card that could not be read again
    if is_complete(card, folder):  # and may be read-only
        return
    if folder == user_dir() and is_shipped(card.name):
        raise ZooError(f"{card.name} is the name of an entry that is shipped and would hide yours; choose another name")
    recover(folder)
    with entry_lock(folder, card.name):
        if not overwrite and card_in(folder, card.name) != card and is_file(folder / f"{card.name}.json"):
            raise NameTakenError(
                f"{folder} holds an entry {card.name} already; choose another place or name, "
                "or replace it with `overwrite=True`"
            )
        checkpoint = folder / card.saved.name
        with replacing(folder, card):
            if not (checkpoint.is_file() and sha256_of(checkpoint) == card.saved.sha256):
                with new_file(checkpoint) as out:
                    write(out)
