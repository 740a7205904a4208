"""Checkpoints that are given by a path instead of a name: a file, or a folder with an entry in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from zoo.cards import Card
from zoo.errors import ZooError
from zoo.store import store
from zoo.utils import expand_path

_NAMED = re.compile(r"(?P<name>.+)-[0-9a-f]{8}\.safetensors")  # as `zoo.cards.File` has it


def is_path(name: str | os.PathLike[str]) -> bool:
    """Whether that is a path and no entry's name: names hold no separator and no such ending."""
    return not isinstance(name, str) or "/" in name or os.sep in name or name.endswith(".safetensors")


def checkpoint_at(place: str | os.PathLike[str]) -> tuple[Path, Card | None]:
    """The checkpoint at a path, and its card if it lies beside: the file itself, or the one of a folder that holds one.
    With a card its SHA-256 is compared.

    Raises:
        ZooError: there is nothing, or more than one, or the file is not the one that its card describes, or the card
            beside it is broken.
    """
    if not isinstance(place, str | os.PathLike):
        raise ZooError(f"{place!r} is neither an entry's name nor a path")
    path = expand_path(place)
    try:
        if path.is_dir():
            files = sorted(path.glob("[!.]*.safetensors"))
            if len(files) != 1:
                what = f"{len(files)} checkpoints: give one of them, as {files[0]}" if files else "no checkpoint"
                raise ZooError(f"the folder {path} holds {what}")
            path = files[0]
        if not path.is_file():
            raise ZooError(f"there is no file {path}")
        named = _NAMED.fullmatch(path.name)
        if named is None or not (beside := path.with_name(f"{named['name']}.json")).is_file():
            return path, None
    except (OSError, ValueError) as error:
        raise ZooError(f"{place!r} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    card = store.read_card(beside)
    if card.saved.name != path.name:  # another version's card
        return path, None
    store.verify_file(path, card)
    return path, card
