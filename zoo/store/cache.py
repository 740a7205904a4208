"""The files in the zoo's folder that can be deleted and made or downloaded again: listed, deleted, verified."""

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
from zoo.store.folders import cache_dir, card_files, entry_folders, home, user_dir
from zoo.store.short_names import kept_names
from zoo.store.transaction import card_in, delete, entry_lock, entry_of, recover
from zoo.store.verify import find_local, read_card, remedy
from zoo.transfer import DAMAGED
from zoo.utils import sha256_of

# What `zoo.transfer` and `zoo.utils.new_file` write checkpoints and cards under. Notes, whose own names begin with a
# dot, are no entry's files.
_UNFINISHED = re.compile(r"\.(?P<name>[^.].*\.(safetensors|json))\.(from-[0-9a-f]{8}|[0-9a-f]{12})\.part(\.json)?")
_STALE_SECONDS = 3600.0  # another unfinished file that did not change for so long has no living writer


@dataclass(frozen=True)
class CacheItem:
    """Files of the zoo's folder that belong together and can be deleted.

    kind     downloaded (an entry); damaged; unfinished (a download); measured (what a later pruning run reuses); or
             run (the state of a command that was stopped, which goes on from there)
    size     bytes
    changed  seconds since 1970
    """

    kind: str
    name: str
    paths: tuple[Path, ...]
    size: int
    changed: float

    @classmethod
    def of(cls, kind: str, name: str, *paths: Path) -> CacheItem:
        """The item of these files and folders, with size and time read from the disk."""
        states = []
        for path in (path for top in paths for path in _files_below(top)):
            with suppress(OSError):  # another process has deleted it
                states.append(path.stat())
        changed = max((state.st_mtime for state in states), default=0.0)
        return cls(kind, name, paths, sum(state.st_size for state in states), changed)


@dataclass(frozen=True)
class Verification:
    """An entry, the path of its checkpoint if it is on this machine, and what is wrong with it; None: nothing."""

    name: str
    path: Path | None
    problem: str | None


def list_cache() -> list[CacheItem]:
    """All items, by kind and name."""
    folder = cache_dir()
    items = [CacheItem.of("downloaded", path.stem, *_checkpoint_of(path), path) for path in card_files(folder)]
    known = {path for item in items for path in item.paths}
    for path in sorted(folder.glob("[!.]*.safetensors")):
        if path not in known:  # a checkpoint without a card, left by a kill
            items.append(CacheItem.of("downloaded", path.name, path))
    items += [CacheItem.of("damaged", path.name, path) for path in sorted((folder / DAMAGED).glob("*"))]
    items += [CacheItem.of("unfinished", path.name, path) for path in sorted(folder.glob(".*.part*"))]
    if measured := _files_below(home() / "known"):
        items.append(CacheItem.of("measured", f"{len(measured)} files", home() / "known"))
    return items + [CacheItem.of("run", path.name, path) for path in sorted((home() / "runs").glob("*"))]


def clean_cache(names: Sequence[str] = (), *, everything: bool = False) -> list[CacheItem]:
    """Delete damaged files and unfinished downloads, and the downloaded entries that are named.

    everything  delete all downloaded entries, and what pruning runs measured. The state of stopped runs is kept even
                then, so that the same commands can go on.

    Returns the deleted items.

    Raises:
        ZooError: a named entry was not downloaded, or a file cannot be deleted.
    """
    for folder in (cache_dir(), user_dir()):
        recover(folder)
    items = list_cache()
    downloaded = [item.name for item in items if item.kind == "downloaded"]
    chosen = {_resolve_downloaded(name, downloaded) for name in names}
    kinds = {"damaged", "downloaded", "measured"} if everything else {"damaged"}
    deleted = []
    for item in items:
        named = item.kind == "downloaded" and item.name in chosen
        if (item.kind in kinds or named or item.kind == "unfinished") and _delete(item):
            deleted.append(item)
    return deleted


def verify_cache() -> list[Verification]:
    """Every entry on this machine with what is wrong: each checkpoint is read and compared with its card.

    Cards that cannot be read come first.
    """
    results, known = [], dict[str, Card]()
    for card_file in (path for folder in entry_folders().values() for path in card_files(folder)):
        try:
            known.setdefault(card_file.stem, read_card(card_file))
        except ZooError as error:
            results.append(Verification(card_file.stem, card_file, str(error)))
    for name, card in sorted(known.items()):
        path = find_local(card)
        missing = f"its checkpoint is not here: type zoo download {name}"
        problem = missing if path is None else _problem(path, card)
        if problem is None or any(card_in(folder, name) == card for folder in entry_folders().values()):
            results.append(Verification(name, path, problem))  # otherwise it was replaced or removed meanwhile
    return results


def _problem(path: Path, card: Card) -> str | None:
    try:
        if path.stat().st_size == card.saved.size and sha256_of(path) == card.saved.sha256:
            return None
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return f"it is not the file that its card describes: {remedy(path, card)}"


def _resolve_downloaded(name: str, downloaded: Sequence[str]) -> str:
    try:
        return resolve_name(name, downloaded, preferred=kept_names())
    except ZooError as error:
        raise ZooError(f"{name!r} was not downloaded: zoo cache list shows what was") from error


def _checkpoint_of(card_file: Path) -> list[Path]:
    try:
        path = card_file.with_name(read_card(card_file).saved.name)
    except ZooError:  # the item is then the broken card alone
        return []
    return [path] if path.is_file() else []


def _delete(item: CacheItem) -> bool:
    """Delete an item unless a living process is at work on it; whether it went."""
    folder, entry = cache_dir(), _entry(item)
    if entry is None:
        if item.kind == "unfinished" and time.time() - item.changed < _STALE_SECONDS:
            return False
        _remove(item.paths)
        return True
    is_entry = item.paths[-1] == folder / f"{entry}.json"
    try:
        with entry_lock(folder, entry, wait=is_entry):
            if is_entry:
                delete(folder, entry)
            elif (card := card_in(folder, entry)) is None or card.saved.name != item.name:  # as it just was, still
                _remove(item.paths)
        return True
    except TimeoutError:
        return False


def _entry(item: CacheItem) -> str | None:
    """The entry whose lock guards an item: a downloaded one's, or that of a file on the way to become a part of one."""
    if item.kind == "unfinished":
        match = _UNFINISHED.fullmatch(item.name)
        return match and (entry_of(match["name"]) or match["name"].removesuffix(".json"))
    if item.kind == "downloaded":
        return entry_of(item.name) if item.paths[-1].suffix == ".safetensors" else item.name
    return None


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise ZooError(f"cannot remove {path}: {error.strerror or error}") from error


def _files_below(top: Path) -> list[Path]:
    """The file itself, or all files in a folder and its subfolders."""
    files = []
    for path in [top] if top.is_file() else sorted(top.rglob("*")):
        with suppress(OSError):  # another process has deleted it
            if path.is_file():
                files.append(path)
    return files
