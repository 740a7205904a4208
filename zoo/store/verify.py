"""Whether files are what they should be: a card that can be read, a checkpoint that is the one of its card."""

from __future__ import annotations

from pathlib import Path

from zoo.cards import MAX_CARD, Card
from zoo.errors import ZooError
from zoo.store.folders import cache_dir, entry_folders, is_file, package_dir, user_dir
from zoo.utils import read_file, sha256_of

_REINSTALL = "install the package again: pip install --force-reinstall --no-deps pruned-zoo"


class DamagedError(ZooError):
    """A checkpoint file is not the one that its card describes."""

    def __init__(self, path: Path, card: Card, reason: str) -> None:
        super().__init__(f"{path} is damaged ({reason}); {remedy(path, card)}")
        self.path = path


def read_card(path: Path) -> Card:
    """The card in a file, whose name must be that of the entry.

    Raises:
        ZooError: the file cannot be read, or holds no card; says what to type.
    """
    try:
        return Card.of_entry(read_file(path, limit=MAX_CARD), path.stem)
    except (OSError, ZooError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        if path.parent == package_dir():
            cure = _REINSTALL
        elif path.parent == cache_dir():
            cure = f"zoo download {path.stem} fetches it again"
        else:
            cure = "mend it or move it away"
        raise ZooError(f"{path} is not a card that can be used: {reason}; {cure}") from error


def find_local(card: Card) -> Path | None:
    """The path of the entry's checkpoint on this machine, or None; its content is not read."""
    paths = (folder / card.saved.name for folder in entry_folders().values())
    return next(filter(is_file, paths), None)


def verified_path(card: Card) -> Path:
    """The path of the entry's checkpoint on this machine, after its SHA-256 was compared with the card's.

    Raises:
        ZooError: the file is missing or damaged; says what to type.
    """
    path = find_local(card)
    if path is None:
        raise ZooError(f"{card.saved.name}, the checkpoint, is not on this machine: type zoo download {card.name}")
    verify_file(path, card)
    return path


def verify_file(path: Path, card: Card) -> None:
    """Raise ZooError unless a checkpoint exists with the size and the SHA-256 of its card.

    The whole file is read each time: 0.1 s for 43 MB.
    """
    expected = card.saved
    try:
        size = path.stat().st_size if path.is_file() else None
        sha256 = sha256_of(path) if size == expected.size else ""
    except OSError as error:  # another process may just have removed it
        raise ZooError(f"{path} cannot be read: {error.strerror or error}") from error
    if size is None:
        raise ZooError(f"there is no file {path}")
    if size != expected.size:
        raise DamagedError(path, card, f"{size} bytes instead of {expected.size}")
    if sha256 != expected.sha256:
        reason = f"its SHA-256 begins with {sha256[:12]}, its card's with {expected.sha256[:12]}"
        raise DamagedError(path, card, reason)


def remedy(path: Path, card: Card) -> str:
    """What to type where a checkpoint is damaged."""
    download = f"zoo download {card.name}"
    if path.parent == package_dir():
        return _REINSTALL
    if path.parent == user_dir():
        return f"remove it and make it again: zoo remove {card.name} && {card.recipe['command']}"
    if path.parent == cache_dir():
        return f"remove it and fetch it again: zoo cache clean {card.name} && {download}"
    return f"fetch it again: {download}"
