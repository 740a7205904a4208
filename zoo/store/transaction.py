"""Entries change whole: one process at a time changes an entry of a folder, and a kill leaves the old or the new one.

A checkpoint is written before its card, and its file name holds the beginning of its SHA-256. So an entry appears,
changes or goes in the one moment in which its card is renamed or removed, and who reads it needs no lock
(`zoo.store.reading` finds it anew where it changed meanwhile).

Before that a note names the checkpoints that come or go. Who takes the lock of the entry next reads the note of a
killed process, and removes those of them that no card names. Checkpoints on no note are never removed: somebody may
have moved their card away to mend it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo.cards import MAX_CARD, Card
from zoo.errors import ZooError
from zoo.utils import LOCKS, locked, new_file, read_file, read_json, remove_stale_files, sha256_of

_CHECKPOINT = re.compile(r"(?P<name>[^./\\][^/\\]*)-[0-9a-f]{8}\.safetensors")
_NOTE = "publishing.json"
_ANY_AGE = float("-inf")  # who holds the lock is the only writer
_MIRRORS_NOTE = f".{_NOTE}"  # earlier versions wrote one for all entries of a mirror


@contextmanager
def entry_lock(folder: Path, name: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of an entry, after what a killed process left of it was removed.

    Raises:
        ZooError, TimeoutError: as `zoo.utils.locked`.
    """
    with locked(folder, f"{name}.json", wait=wait):
        _clear(folder, name)
        yield


def recover(folder: Path) -> None:
    """Remove what killed processes left of all entries of a folder. Entries that others work on are left to them."""
    old_note = folder / _MIRRORS_NOTE
    try:
        files = os.listdir(folder / LOCKS)
    except OSError:  # there is none, most often
        files = []
    endings = (".json.lock", f".{_NOTE}")
    left = {file.removesuffix(ending) for ending in endings for file in files if file.endswith(ending)}
    noted = _noted(old_note)
    for name in sorted(left | {str(entry_of(checkpoint)) for checkpoint in noted}):
        with suppress(TimeoutError, OSError), entry_lock(folder, name, wait=False):
            _remove_unnamed(folder, name, noted)
    with suppress(OSError):
        old_note.unlink()
    with suppress(OSError):  # it is not empty, or not there
        (folder / LOCKS).rmdir()


@contextmanager
def replacing(folder: Path, card: Card) -> Iterator[None]:
    """Make a card that of its entry in a folder, after the block has written the checkpoint; inside `entry_lock`.

    The checkpoint that the replaced card named is then removed. An exception leaves the entry as it was.
    """
    old = card_in(folder, card.name)
    _write_note(folder, card.name, {each.saved.name for each in (old, card) if each is not None})
    try:
        yield
        if old != card:
            with new_file(folder / f"{card.name}.json") as out:
                out.write(card.to_json().encode())
    finally:
        _clear(folder, card.name)


def delete(folder: Path, name: str, *, expected: Card | None = None) -> list[Path]:
    """Delete an entry of a folder, or a card that cannot be read, and return the files that went; inside `entry_lock`.

    Raises:
        ZooError: a file cannot be deleted, or the entry has another card than the expected one.
    """
    card, card_file = card_in(folder, name), folder / f"{name}.json"
    if expected is not None and card not in (None, expected):
        raise ZooError(f"{name} was replaced meanwhile and is kept: zoo info {name} shows what it is now")
    checkpoints = [] if card is None else [folder / card.saved.name]
    with suppress(ZooError):  # on a full disk there is no note, and what a kill may leave is a checkpoint of no entry
        _write_note(folder, name, [path.name for path in checkpoints])
    removed = []
    for path in (card_file, *checkpoints):
        try:
            path.unlink()
            removed.append(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise ZooError(f"cannot remove {path}: {error.strerror or error}") from error
    _clear(folder, name)
    return removed


def card_in(folder: Path, name: str) -> Card | None:
    """The card of an entry in a folder; None if there is none, or one that cannot be read."""
    try:
        return Card.of_entry(read_file(folder / f"{name}.json", limit=MAX_CARD), name)
    except (OSError, ZooError):
        return None


def is_complete(card: Card, folder: Path) -> bool:
    """Whether a folder holds the entry of a card, with the checkpoint that it describes."""
    path = folder / card.saved.name
    try:
        return card_in(folder, card.name) == card and path.is_file() and sha256_of(path) == card.saved.sha256
    except OSError:  # another process has just replaced it
        return False


def entry_of(checkpoint: str) -> str | None:
    """The name of the entry that a checkpoint of this file name is of; None for another file."""
    match = _CHECKPOINT.fullmatch(checkpoint)
    return match and match["name"]


def _note(folder: Path, name: str) -> Path:
    return folder / LOCKS / f"{name}.{_NOTE}"


def _write_note(folder: Path, name: str, checkpoints: Collection[str]) -> None:
    with new_file(_note(folder, name), durable=False) as out:  # of a note that is lost a checkpoint of no entry is left
        out.write(json.dumps(sorted(checkpoints)).encode())


def _noted(note: Path) -> set[str]:
    """The checkpoints that a note names; a file of another form names none."""
    try:
        names = read_json(note)
    except (OSError, ValueError):
        return set()
    return {name for name in names if isinstance(name, str) and entry_of(name)} if isinstance(names, list) else set()


def _clear(folder: Path, name: str) -> None:
    """Remove what is half written of an entry, those checkpoints of its note that its card does not name, the note."""
    note = _note(folder, name)
    checkpoint = rf"{re.escape(name)}-[0-9a-f]{{8}}\.safetensors"
    files = rf"{re.escape(name)}\.json|{checkpoint}|\.{checkpoint}\.from-[0-9a-f]{{8}}\.part\.json"
    remove_stale_files(folder, files, older=_ANY_AGE)
    remove_stale_files(note.parent, re.escape(note.name), older=_ANY_AGE)
    with suppress(OSError):  # what cannot be removed stays on the note
        if os.path.lexists(note):
            _remove_unnamed(folder, name, _noted(note))
            note.unlink()


def _remove_unnamed(folder: Path, name: str, checkpoints: Collection[str]) -> None:
    """Remove those checkpoints of an entry that its card does not name; one that cannot be read might name any."""
    ours = {checkpoint for checkpoint in checkpoints if entry_of(checkpoint) == name}
    if ours and (card := card_in(folder, name)) is not None:
        ours.discard(card.saved.name)
    elif os.path.lexists(folder / f"{name}.json"):
        return
    for checkpoint in ours:
        (folder / checkpoint).unlink(missing_ok=True)
