"""Publishing: a folder that any static web server can serve as a mirror.

The order is what keeps it whole: a checkpoint is there before its card, a card before the index that lists it. A
process that is killed leaves the mirror of before, or of after, and a note of the files that it was about to write or
to remove: the next run takes them over or removes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from zoo.cards import Card, resolve_name
from zoo.errors import ZooError
from zoo.store import mirrors, store
from zoo.transfer import FetchError
from zoo.utils import expand_path, locked, new_file, remove_stale_files

_NOTE = ".publishing.json"
_CHECKPOINT = re.compile(r"[^./\\][^/\\]*-[0-9a-f]{8}\.safetensors")
_ENDING = len("-01234567.safetensors")


@dataclass(frozen=True)
class Published:
    """What a mirror holds: the entries that are new, those that were replaced, and those that were there.

    missing: entry of the mirror -> its parent, for parents that could be published and that whoever has the package and
    the mirror does not have.
    """

    folder: Path
    new: list[str]
    replaced: list[str]
    there: list[str]
    missing: dict[str, str]


def publish(folder: Path, patterns: Sequence[str] = (), *, overwrite: bool = False) -> Published:
    """Write shipped and own entries, all or those that a name or a pattern like ``dgcnn*`` matches, into a mirror.

    A mirror that is there is added to; the same entries give the same bytes, in whatever order they came. The user's
    own entries carry their commands and recipes with them, as cards do.

    Raises:
        ZooError: a pattern that matches nothing, a damaged entry, another entry of that name in the mirror unless
            ``overwrite`` is given, a mirror of a newer version, or a folder that cannot be written to.
    """
    known = {name: card for name, card in store.cards().items() if not store.downloaded(card)}
    if not known:
        raise ZooError("there is nothing to publish: make an entry with zoo train or zoo reprune")
    if isinstance(patterns, str):
        patterns = [patterns]
    chosen = sorted({name for pattern in patterns or ["*"] for name in _matching(pattern, known)})
    folder = expand_path(folder)
    with locked(folder, "publish"):
        listed = _listed(folder)
        places = {name: folder / f"{name}.json" for name in chosen}
        before = {name: store.read_card(place) for name, place in places.items() if place.exists()}
        new = [name for name in chosen if name not in before]
        replaced = [name for name in chosen if name in before and before[name] != known[name]]
        there = [name for name in chosen if before.get(name) == known[name]]
        if replaced and not overwrite:  # before anything is written
            others = f"{'an entry' if len(replaced) == 1 else 'entries'} {', '.join(replaced)}"
            raise ZooError(f"{folder} holds {others} already, not as here; choose another place, or type --overwrite")
        cards = [*(known[name] for name in (*new, *replaced)), *(before[name] for name in replaced)]
        with _cleared(folder, {card.saved.name for card in cards}):
            for name in chosen:
                store.add(store.path_of(known[name]), known[name], folder, overwrite=overwrite)
            # From what lies there, not from what the index said: so a lost one is whole again.
            held = dict(_entries(folder, listed))
            index = mirrors.index_of(held)
            if not (folder / mirrors.INDEX).exists() or (folder / mirrors.INDEX).read_bytes() != index:
                with new_file(folder / mirrors.INDEX) as out:
                    out.write(index)
    missing = {
        name: parent for name, parent in sorted((name, card.parent) for name, card in held.items())
        if parent in known and parent not in held and not store.is_shipped(parent)
    }  # fmt: skip
    return Published(folder, new, replaced, there, missing)


@contextmanager
def _cleared(folder: Path, checkpoints: set[str]) -> Iterator[None]:
    """Note which checkpoints are written and replaced in the block, and remove those that no card names after it.

    A note that is there is that of a publisher that was killed: what it left goes too, half files first. Nothing else
    is touched, for others may save entries here meanwhile.
    """
    note = folder / _NOTE
    left = _noted(note)
    for name in (*left, *(f"{name[:-_ENDING]}.json" for name in left), mirrors.INDEX, _NOTE):
        remove_stale_files(folder, name, older=0)
    if noted := left | checkpoints:
        with new_file(note) as out:
            out.write(json.dumps(sorted(noted)).encode())
    try:
        yield
    finally:
        for name in noted:
            if not _named(folder, name):
                (folder / name).unlink(missing_ok=True)
        note.unlink(missing_ok=True)


def _noted(note: Path) -> set[str]:
    """The checkpoints that a note names, if it is one."""
    try:
        names = json.loads(note.read_bytes())
    except (OSError, ValueError):
        return set()
    if not isinstance(names, list):
        return set()
    return {name for name in names if isinstance(name, str) and _CHECKPOINT.fullmatch(name)}


def _named(folder: Path, checkpoint: str) -> bool:
    """Whether the card of a checkpoint's entry names it; one that cannot be read may."""
    place = folder / f"{checkpoint[:-_ENDING]}.json"
    try:
        return place.exists() and store.read_card(place).saved.name == checkpoint
    except ZooError:
        return True


def _listed(folder: Path) -> list[str]:
    """The entries that a mirror's index lists; none where there is no index yet."""
    try:
        return mirrors.index(str(folder.absolute())) if (folder / mirrors.INDEX).exists() else []
    except FetchError as error:
        raise ZooError(f"{folder} cannot be added to: {error}") from error


def _entries(folder: Path, listed: Collection[str]) -> Iterator[tuple[str, Card]]:
    """Names and cards of the entries in a folder: cards whose checkpoint lies there, and those that were listed without
    one; other JSON files are none."""
    for place in folder.glob("[!.]*.json"):
        with suppress(ZooError):
            if place.name == mirrors.INDEX:
                continue
            card = store.read_card(place)
            if place.stem in listed or (folder / card.saved.name).is_file():
                yield place.stem, card


def _matching(pattern: str, known: Iterable[str]) -> list[str]:
    if any(sign in pattern for sign in "*?["):
        found = [name for name in known if store.matches(name, pattern)]
        if not found:
            raise ZooError(f"no entry matches {pattern!r}: zoo list shows those that there are")
        return found
    return [resolve_name(pattern, known)]
