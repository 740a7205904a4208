"""What lies in the zoo's folder besides the user's own entries: to see it, to remove it, to check it."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zoo.cards import Card, resolve_name
from zoo.errors import ZooError
from zoo.store import store
from zoo.store.mirrors import INDEX
from zoo.transfer import DAMAGED
from zoo.utils import locked, sha256_of

_DOWNLOAD = re.compile(r"\.(?P<name>.+\.safetensors)\.from-[0-9a-f]{8}\.part(\.json)?")  # as `zoo.transfer.download` names it
_STALE = 3600.0  # seconds without a change after which a half file that no lock guards has no writer any more


@dataclass(frozen=True)
class Item:
    """Something that can be removed without loss of what cannot be had again.

    kind  downloaded, damaged, unfinished (a download), measured (what repruning takes over), checked (notes of hashes),
          run (the state of a command that was stopped: it goes on from there)
    """

    kind: str
    name: str
    paths: tuple[Path, ...]
    size: int  # bytes
    changed: float  # seconds since 1970

    @classmethod
    def of(cls, kind: str, name: str, *paths: Path) -> Item:
        states = [path.stat() for top in paths for path in _files(top)]
        changed = max((state.st_mtime for state in states), default=0.0)
        return cls(kind, name, paths, sum(state.st_size for state in states), changed)


@dataclass(frozen=True)
class Checked:
    """An entry and what is wrong with its checkpoint, or None."""

    name: str
    path: Path | None
    problem: str | None


def list_cache() -> list[Item]:
    """All of them, in the order of their kinds."""
    folder, home = store.cache_dir(), store.home()
    found = []
    cards = {path.stem: path for path in sorted(folder.glob("[!.]*.json")) if path.name != INDEX}
    for name, place in cards.items():
        found.append(Item.of("downloaded", name, *_checkpoint(place), place))
    for path in sorted(folder.glob("[!.]*.safetensors")):
        if not any(path in item.paths for item in found):  # its card is gone, or was never written
            found.append(Item.of("downloaded", path.name, path))
    found += [Item.of("damaged", path.name, path) for path in sorted((folder / DAMAGED).glob("*"))]
    found += [Item.of("unfinished", path.name, path) for path in sorted(folder.glob(".*.part*"))]
    for kind, place in (("measured", home / "known"), ("checked", home / "verified")):
        if any(_files(place)):
            found.append(Item.of(kind, f"{len(_files(place))} files", place))
    found += [Item.of("run", path.name, path) for path in sorted((home / "runs").glob("*"))]
    return found


def clean_cache(entries: Sequence[str] = (), *, everything: bool = False) -> list[Item]:
    """Remove damaged files and unfinished downloads; also the downloaded entries that are named, or all of them with
    what is measured and checked. Runs that were stopped stay: a command can go on with them. Returns what was removed.

    Raises:
        ZooError: an entry that was not downloaded, or a file that cannot be removed.
    """
    there = list_cache()
    known = [item.name for item in there if item.kind == "downloaded"]
    named = {_downloaded(entry, known) for entry in entries}
    kinds = {"downloaded", "measured", "checked"} if everything else set()
    removed = []
    for item in there:
        wanted = item.kind in ("damaged", *kinds) or (item.kind == "downloaded" and item.name in named)
        if wanted or (item.kind == "unfinished" and _abandoned(item)):
            _remove(item)
            removed.append(item)
    return removed


def _downloaded(entry: str, known: Sequence[str]) -> str:
    try:
        return resolve_name(entry, known)
    except ZooError as error:
        raise ZooError(f"{entry!r} was not downloaded: zoo cache list shows what was") from error


def verify_cache() -> list[Checked]:
    """Every entry on this machine, its checkpoint read whole and compared with its card; broken cards as well."""
    found = []
    for place in store.card_places():
        try:
            store.read_card(place)
        except ZooError as error:
            found.append(Checked(place.stem, place, str(error)))
    for name, card in store.cards().items():
        path = store.find_local(card)
        if path is None:
            found.append(Checked(name, None, f"its checkpoint is not here: type zoo download {name}"))
            continue
        found.append(Checked(name, path, _problem(path, card)))
    return found


def _problem(path: Path, card: Card) -> str | None:
    try:
        if path.stat().st_size == card.saved.size and sha256_of(path) == card.saved.sha256:
            return None
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return f"it is not the file that its card describes: {store.remedy(path, card)}"


def _checkpoint(place: Path) -> list[Path]:
    try:
        path = place.with_name(store.read_card(place).saved.name)
    except ZooError:  # a broken card can be removed all the same
        return []
    return [path] if path.is_file() else []


def _abandoned(item: Item) -> bool:
    """Whether no process is at work on it: downloads hold a lock, other writers are quick."""
    download = _DOWNLOAD.fullmatch(item.name)
    return _free(download["name"]) if download else time.time() - item.changed > _STALE


def _free(name: str) -> bool:
    try:
        with locked(store.cache_dir(), name, wait=False):
            return True
    except TimeoutError:
        return False


def _remove(item: Item) -> None:
    # The card first: without it there is no entry, whatever else is left by a kill.
    for path in reversed(item.paths):
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise ZooError(f"cannot remove {path}: {error.strerror or error}") from error


def _files(top: Path) -> list[Path]:
    found = [top] if top.is_file() else sorted(top.rglob("*"))
    kept = []
    for path in found:
        with suppress(OSError):  # gone in the meantime
            if path.is_file():
                kept.append(path)
    return kept
