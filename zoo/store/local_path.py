"""Checkpoints and places on this machine: a path given instead of a name, and the places of an entry's checkpoint."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from zoo.cards import Card
from zoo.errors import ZooError
from zoo.store.folders import entry_folders, is_file
from zoo.store.verify import read_card, verify_file
from zoo.transfer import redact
from zoo.utils import WEIGHTS_SUFFIXES, check_format, expand_path

_CHECKPOINT = re.compile(r"(?P<name>.+)-[0-9a-f]{8}\.safetensors")  # the file names that `zoo.cards.File` demands


def is_path(name: str | os.PathLike[str]) -> bool:
    """Whether the text is a path and not the name of an entry, which holds no separator and no such ending."""
    return not isinstance(name, str) or "/" in name or os.sep in name or name.endswith(WEIGHTS_SUFFIXES)


def checkpoint_at(location: str | os.PathLike[str]) -> tuple[Path, Card | None]:
    """The checkpoint at a path, a file or a folder that holds one checkpoint, and the card if it lies beside.

    With a card, the SHA-256 of the file is compared with the card's.

    Raises:
        ZooError: there is no checkpoint, more than one, or one in another format; the file is not the one that
            its card describes; or the card is broken.
    """
    if not isinstance(location, str | os.PathLike):
        raise ZooError(f"{location!r} is neither an entry's name nor a path")
    path = expand_path(location)
    try:
        if path.is_dir():
            path = _only_checkpoint(path)
        if not path.is_file():
            raise ZooError(f"there is no file {redact(str(location))}")
        match = _CHECKPOINT.fullmatch(path.name)
        if match is None or not (card_file := path.with_name(f"{match['name']}.json")).is_file():
            check_format(path)
            return path, None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ZooError(f"{redact(str(location))!r} cannot be read: {reason}") from error
    card = read_card(card_file)
    if card.saved.name != path.name:  # the card of another version of the entry
        return path, None
    verify_file(path, card)
    return path, card


def _only_checkpoint(folder: Path) -> Path:
    files = sorted(folder.glob("[!.]*.safetensors"))
    if len(files) != 1:
        content = f"{len(files)} checkpoints: give one of them, as {files[0]}" if files else "no checkpoint"
        raise ZooError(f"the folder {folder} holds {content}")
    return files[0]


def locations(card: Card, mirror: Sequence[str] = ()) -> list[str]:
    """One line for each place on this machine that has the entry's checkpoint.

    Where there is none, one line that says what to type instead, with the given mirrors (see `redact`) as options.
    """
    places = ((title, folder / card.saved.name) for title, folder in entry_folders().items())
    lines = [f"{title}: {path}" for title, path in places if is_file(path)]
    options = [word for base in mirror for word in ("--mirror", redact(base))]
    return lines or [f"not on this machine: type {shlex.join(['zoo', 'download', card.name, *options])}"]
