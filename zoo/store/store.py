"""Where entries lie: shipped with the package, the user's own, and downloaded ones.

Each is a folder of the same form: ``<name>.json``, the card, beside the checkpoint that it names. A checkpoint is
written before its card and its file name holds the beginning of its hash, so the card's rename is the moment at
which an entry appears or changes: a process killed at any other moment leaves the entry before or the entry after.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from zoo.cards import Card, check_name_text, parse_name, resolve_name
from zoo.errors import ZooError
from zoo.store import mirrors
from zoo.store.verify import sha256_of_known
from zoo.transfer import FetchError, offline, set_aside, shown
from zoo.utils import expand_path, locked, new_file, sha256_of

if TYPE_CHECKING:
    pass

_LOG = logging.getLogger("zoo")


def home() -> Path:
    """The folder of everything that is not shipped: ``ZOO_HOME``, or the system's place for a user's data."""
    if folder := os.environ.get("ZOO_HOME"):
        return expand_path(folder)
    from platformdirs import user_data_path

    return user_data_path("pruned-zoo", appauthor=False)


def package_dir() -> Path:
    """The folder of the entries that come with the package."""
    return Path(str(resources.files("zoo").joinpath("checkpoints")))


def is_shipped(name: str) -> bool:
    """Whether an entry of this full name comes with the package."""
    return (package_dir() / f"{name}.json").exists()


def user_dir() -> Path:
    """The folder of the user's own entries."""
    return home() / "own"


def cache_dir() -> Path:
    """The folder of downloaded entries."""
    return home() / "cache"


def cards(mirror: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = ()) -> dict[str, Card]:
    """Every entry by its full name, sorted: shipped, own, downloaded, and on the mirrors if any are given.

    Of entries with one name the first in this order counts. A card that cannot be used, and a mirror that cannot be
    reached, are left out, and a warning says which and why.
    """
    found: dict[str, Card] = {}
    for path in card_places():
        if path.stem not in found:
            try:
                found[path.stem] = read_card(path)
            except ZooError as error:
                _LOG.warning("%s", error)
    for base in mirrors.configured_mirrors(mirror):
        listed: list[str] = []
        try:
            listed = mirrors.index(base)
        except FetchError as error:
            _LOG.warning("%s is left out: %s", shown(base), error)
        for name in listed:
            if name not in found:
                try:
                    found[name] = mirrors.card(base, name)
                except FetchError as error:
                    _LOG.warning("%s of %s is left out: %s", name, shown(base), error)
    return dict(sorted(found.items()))


def card_places() -> list[Path]:
    """The files that should be cards: shipped, own, downloaded."""
    places = (path for folder in _folders() for path in sorted(folder.glob("[!.]*.json")))
    return [path for path in places if path.name != mirrors.INDEX]


def read_card(path: Path) -> Card:
    """The card in one file of a store's folder; the file's name is the entry's.

    Raises:
        ZooError: it cannot be read, or is no card; says what to type.
    """
    try:
        return Card.of_entry(path.read_bytes(), path.stem)
    except (OSError, ZooError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        remedy = f"zoo download {path.stem} fetches it again" if path.parent == cache_dir() else "mend it or move it away"
        raise ZooError(f"{path} is not a card that can be used: {reason}; {remedy}") from error


def list_models(pattern: str | None = None) -> list[str]:
    """The names of all entries on this machine, sorted, or of those that a pattern like ``dgcnn*`` matches.

    A pattern is held against the name with and without its data set, so ``*-0.5x`` finds ``dgcnn-0.5x.shapes``.
    """
    if pattern is not None:
        check_name_text(pattern)
    return [name for name in cards() if pattern is None or matches(name, pattern)]


def info(name: str, *, mirror: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = ()) -> Card:
    """The card of an entry on this machine, or else on a mirror that is given; a name without a data set means the most
    demanding one's.

    Raises:
        ZooError: there is no such entry; names near ones.
    """
    known = cards(mirror)
    return known[resolve_name(name, known)]


def path_of(card: Card) -> Path:
    """The entry's checkpoint on this machine, its whole content compared with the card's SHA-256.

    A file whose size and times are those of the last comparison is not read again (`zoo.store.verify_file`).

    Raises:
        ZooError: it is not here, or damaged; says what to type.
    """
    path = find_local(card)
    if path is None:
        raise ZooError(f"{card.saved.name}, the checkpoint, is not on this machine: type zoo download {card.name}")
    verify_file(path, card)
    return path


def download(
    name: str, *, to: str | Path | None = None, mirror: str | os.PathLike[str] | Sequence[str] | None = None,
    overwrite: bool = False,
) -> Path:  # fmt: skip
    """Have an entry's checkpoint on this machine, verified, and return its path.

    What is here already, shipped, own or downloaded before, is not fetched again, and a name without a data set is
    looked up here first. Otherwise the mirrors are asked in order, those given or those of ``ZOO_MIRROR``; none on the
    network where ``ZOO_OFFLINE`` is set. A downloaded file that is damaged is set aside and fetched again. With ``to``,
    checkpoint and card are copied into that folder too and the path there is returned; another entry of that name
    there is replaced only with ``overwrite``.

    Raises:
        ZooError: no such entry, no mirror that has it whole (each one's reason is given), a damaged file, or a
            folder that cannot be written to.
    """
    return fetch(name, to=to, mirror=mirror, overwrite=overwrite)[0]


def fetch(
    name: str, *, to: str | Path | None = None, mirror: str | os.PathLike[str] | Sequence[str] | None = None,
    overwrite: bool = False,
) -> tuple[Path, Card]:  # fmt: skip
    """`download`, with the entry's card."""
    check_name_text(name)
    known, places = cards(), mirrors.configured_mirrors(mirror)
    card = None
    try:
        card = known[resolve_name(name, known)]
    except ZooError as error:
        if not places:
            raise (ZooError(f"{error}; {mirrors.bundled(name)}") if offline() else error) from None
    path = None
    if card is not None and (find_local(card) or not places):
        try:
            path = path_of(card)
        except _DamagedError as error:
            if not places or error.path.parent != cache_dir():
                raise
            _set_aside(error.path, card)
    if path is None or card is None:
        before = card
        # An entry that is not a download means that very checkpoint.
        own_card = card if card is not None and not downloaded(card) else None
        path, card = mirrors.bring(name if card is None else card.name, places, cache_dir(), known=own_card)
        if before is not None and before.saved != card.saved:
            _LOG.warning("the mirror's %s is another one than was downloaded before, and takes its place", card.name)
        if own_card is None:
            add(path, card, cache_dir(), overwrite=True)
    if to is None:
        return path, card
    folder = expand_path(to)
    add(path, card, folder, overwrite=overwrite)
    return folder / card.saved.name, card


def add(model_path: Path, card: Card, folder: Path | None = None, *, overwrite: bool = False) -> None:
    """Copy a checkpoint and its card into a folder, the user's own zoo by default.

    An entry that is there and equal is left as it is.

    Raises:
        ZooError: the file is not the one that the card describes; the folder holds another entry of this
            name and ``overwrite`` is not given; a shipped entry has the name; the folder cannot be written to.
    """
    verify_file(model_path, card)

    def write(out: BinaryIO) -> None:
        with open(model_path, "rb") as file:
            shutil.copyfileobj(file, out)

    install_entry(card, user_dir() if folder is None else folder, write, overwrite=overwrite)


def install_entry(card: Card, folder: Path, write: Callable[[BinaryIO], None], *, overwrite: bool) -> None:
    card = Card.from_json(card.to_json())  # what is written can be read
    place, path = folder / f"{card.name}.json", folder / card.saved.name
    old = _card_in(place)
    if old != card:
        _check_free(card.name, folder, overwrite=overwrite)
    if not (path.is_file() and sha256_of(path) == card.saved.sha256):
        with new_file(path) as out:
            write(out)
    if old == card:
        return
    with new_file(place) as out:
        out.write(card.to_json().encode())
    if old is not None and old.saved.name != path.name:
        (folder / old.saved.name).unlink(missing_ok=True)


def _card_in(place: Path) -> Card | None:
    """The card there, or None: there is none, or a broken one, which may be replaced like another."""
    try:
        return read_card(place) if place.exists() else None
    except ZooError:
        return None


def _check_free(name: str, folder: Path, *, overwrite: bool) -> None:
    if folder == user_dir() and is_shipped(name):
        raise ZooError(f"{name} is the name of an entry that is shipped and would hide yours; choose another name")
    if not overwrite and (folder / f"{name}.json").exists():
        raise ZooError(f"{folder} holds an entry {name} already; choose another place or name, or type --overwrite")


def downloaded(card: Card) -> bool:
    """Whether an entry's card is neither shipped nor the user's own."""
    return not (is_shipped(card.name) or (user_dir() / f"{card.name}.json").exists())


def _folders() -> tuple[Path, Path, Path]:
    return package_dir(), user_dir(), cache_dir()


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern like ``dgcnn*`` matches a name, with or without its data set."""
    return fnmatchcase(name, pattern) or fnmatchcase(parse_name(name).stem, pattern)


def find_local(card: Card) -> Path | None:
    """Where an entry's checkpoint lies on this machine, or None."""
    paths = [folder / card.saved.name for folder in _folders()]
    return next((path for path in paths if path.is_file()), None)


def verify_file(path: Path, card: Card) -> None:
    """Compare a checkpoint with its card: raise ZooError unless it is there with that size and SHA-256."""
    if not path.is_file():
        raise ZooError(f"there is no file {path}")
    size, wanted = path.stat().st_size, card.saved
    if size != wanted.size:
        raise _damaged(path, card, f"{size} bytes instead of {wanted.size}")
    if (found := sha256_of_known(path, home() / "verified")) != wanted.sha256:
        raise _damaged(path, card, f"its SHA-256 begins with {found[:12]}, its card's with {wanted.sha256[:12]}")


class _DamagedError(ZooError):
    """A file that is not the one its card describes."""

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        super().__init__(f"{path} is damaged ({reason}); {remedy}")
        self.path = path


def _set_aside(path: Path, card: Card) -> None:
    with locked(cache_dir(), path.name):
        if path.is_file() and (found := sha256_of(path)) != card.saved.sha256:  # else another process was quicker
            aside = set_aside(path, cache_dir(), path.name, found)
            _LOG.warning("%s is damaged: set aside as %s, fetching it again", path, aside)


def _damaged(path: Path, card: Card, reason: str) -> _DamagedError:
    return _DamagedError(path, reason, remedy(path, card))


def remedy(path: Path, card: Card) -> str:
    """What to type where an entry's checkpoint is damaged."""
    again = f"zoo download {card.name}"
    if path.parent == package_dir():
        return "install the package again: pip install --force-reinstall --no-deps pruned-zoo"
    if path.parent == user_dir():
        both = f"'{path}' '{path.with_name(card.name)}.json'"
        return f"remove it and make it again: rm {both} && {card.recipe['command']}"
    if path.parent == cache_dir():
        return f"remove it and fetch it again: rm '{path}' && {again}"
    return f"fetch it again: {again}"
