"""Checkpoints and places on this machine: a path given instead of a name, and the places of an entry's checkpoint."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from zoo.cards import Card
from zoo.errors import ZooError
from zoo.store.folders import entry_folders, is_file
from zoo.store.transaction import card_in, entry_of
from zoo.store.verify import read_card, verify_file
from zoo.transfer import redact
from zoo.utils import WEIGHTS_SUFFIXES, check_format, expand_path


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
        if not path.is_dir():
            if not path.is_file():
                raise ZooError(f"there is no file {redact(str(location))}")
            return _with_card(path)
        while True:
            file = _only_checkpoint(path)
            try:
                found, card = _with_card(file)
            except (OSError, ZooError):
                if file.exists():
                    raise
            else:
                if card is not None or file in _checkpoints(path):
                    return found, card
            # Another process has replaced it meanwhile.
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ZooError(f"{redact(str(location))!r} cannot be read: {reason}") from error


def _with_card(path: Path) -> tuple[Path, Card | None]:
    name = entry_of(path.name)
    if name is None or not (card_file := path.with_name(f"{name}.json")).is_file():
        check_format(path)
        return path, None
    card = read_card(card_file)
    if card.saved.name != path.name:  # the card of another version of the entry
        return path, None
    verify_file(path, card)
    return path, card


def _only_checkpoint(folder: Path) -> Path:
    files = _checkpoints(folder)
    while len(files) != 1:
        before, files = files, _checkpoints(folder)
        if before == files:  # and not replaced just now
            content = f"{len(files)} checkpoints: give one of them, as {files[0]}" if files else "no checkpoint"
            raise ZooError(f"the folder {folder} holds {content}")
    return files[0]


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, without those that another process writes or removes: the entry has another one."""
    files = sorted(folder.glob("[!.]*.safetensors"))
    cards = {name: card_in(folder, name) for name in {entry_of(path.name) for path in files} if name is not None}
    named = {name: card.saved.name for name, card in cards.items() if card and (folder / card.saved.name).is_file()}
    return [path for path in files if named.get(entry_of(path.name) or "", path.name) == path.name]


def locations(card: Card, mirror: Sequence[str] = ()) -> list[str]:
    """One line for each place on this machine that has the entry's checkpoint.

    Where there is none, one line that says what to type instead, with the given mirrors (see `redact`) as options.
    """
    places = ((title, folder / card.saved.name) for title, folder in entry_folders().items())
    lines = [f"{title}: {path}" for title, path in places if is_file(path)]
    options = [word for base in mirror for word in ("--mirror", redact(base))]
    return lines or [f"not on this machine: type {shlex.join(['zoo', 'download', card.name, *options])}"]
