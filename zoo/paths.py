"""Checkpoints that are given by a path instead of a name: a file, or a folder with an entry in it."""

from __future__ import annotations

import os
from pathlib import Path

from zoo import mirrors, store
from zoo.cards import Card
from zoo.errors import ZooError


def is_path(name: str | os.PathLike[str]) -> bool:
    """Whether that is a path and no entry's name: names hold no separator and no such ending."""
    text = os.fspath(name)
    return not isinstance(name, str) or "/" in text or os.sep in text or text.endswith(".safetensors")


def checkpoint_at(place: str | os.PathLike[str]) -> Path:
    """The checkpoint at a path: the file itself, or the one of a folder that holds one. With a card beside it its
    SHA-256 is compared.

    Raises:
        ZooError: there is nothing, or more than one entry, or the file is not the one that its card describes.
    """
    path = Path(place).expanduser()
    if not path.is_dir():
        if not path.is_file():
            raise ZooError(f"there is no file {path}")
        for card in _cards(path.parent).values():
            if card.saved.name == path.name:
                store.verify(path, card)
        return path
    cards = _cards(path)
    files = sorted({card.saved.name for card in cards.values()} or {file.name for file in path.glob("*.safetensors")})
    if len(files) != 1:
        what = f"{len(files)} checkpoints: give one of them, as {path / files[0]}" if files else "no checkpoint"
        raise ZooError(f"the folder {path} holds {what}")
    return checkpoint_at(path / files[0])


def _cards(folder: Path) -> dict[str, Card]:
    """The cards of a folder; other people's JSON files are none."""
    found = {}
    for place in sorted(folder.glob("[!.]*.json")):
        if place.name != mirrors.INDEX:
            try:
                found[place.stem] = store.read_card(place)
            except ZooError:
                continue
    return found
