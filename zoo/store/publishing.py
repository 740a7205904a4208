"""Publishing: a mirror folder that any static web server can serve.

Each entry is written as `zoo.store.transaction` says, before the index that lists it. A process that is killed leaves
each entry as it was before or after, and the next run removes what the killed one left.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zoo.cards import Card
from zoo.errors import ZooError
from zoo.store import mirrors
from zoo.store.entries import Entries
from zoo.store.folders import OWN, SHIPPED, card_files, is_shipped, is_user_entry
from zoo.store.save import copy_entry
from zoo.store.signatures import Signer
from zoo.store.store import fetch, reading
from zoo.store.transaction import recover
from zoo.store.verify import find_local, read_card, verified_path
from zoo.transfer import FetchError, local_path
from zoo.utils import locked, new_file, remove_stale_files


@dataclass(frozen=True)
class Published:
    """The names of a mirror's entries that are new, that were replaced, and that did not change.

    missing: entry of the mirror -> its parent, if that could be published too, and is neither shipped nor in the mirror
    left_out: own entry that was not named -> why it counts as a failed experiment
    """

    folder: Path
    new: list[str]
    replaced: list[str]
    unchanged: list[str]
    missing: dict[str, str]
    left_out: dict[str, str]


def publish(
    folder: Path, patterns: Sequence[str] = (), *, overwrite: bool = False, sign: Signer | None = None
) -> Published:
    """Write shipped and own entries into a mirror folder: all, or those that a name or a pattern like ``dgcnn*`` names.

    Entries are added to an existing mirror. The same entries give the same bytes, in whatever order they came. Cards of
    the user's own entries are published with their commands and recipes. One that is near chance, or has lost half of
    what its parent knows, is a failed experiment: it is published only by its name, not by a pattern or among all.

    sign  the key that the mirror's index is signed with, all entries of the mirror together

    Raises:
        ZooError: a pattern matches nothing; an entry is damaged; the mirror has another entry of that name and
            ``overwrite`` is off, or is of a newer version, or is signed and ``sign`` is None; the folder cannot be
            written to.
    """
    ours = Entries(titles=(SHIPPED, OWN))
    if not ours.names():
        raise ZooError("there is nothing to publish: make an entry with zoo train or zoo reprune")
    chosen, left_out = _choose([patterns] if isinstance(patterns, str) else patterns or ["*"], ours)
    folder = local_path(folder)
    with locked(folder, mirrors.INDEX):
        if sign is None and (signature := folder / mirrors.SIGNATURE).exists():
            raise ZooError(f"{folder} is signed: sign it again with `sign=KEY`, or remove {signature} first")
        listed = _listed(folder)
        before = {name: read_card(path) for name in chosen if (path := folder / f"{name}.json").exists()}
        new = [name for name in chosen if name not in before]
        replaced = [name for name in chosen if name in before and before[name] != ours[name]]
        if replaced and not overwrite:  # before anything is written
            entries = f"{'an entry' if len(replaced) == 1 else 'entries'} {', '.join(replaced)}"
            raise ZooError(
                f"{folder} holds {entries} already, not as here; choose another place, or replace with `overwrite=True`"
            )
        remove_stale_files(folder, f"{re.escape(mirrors.INDEX)}.*", older=0)  # and of its signature
        recover(folder)
        written = {name: _copy(ours[name], folder, overwrite=overwrite) for name in chosen}
        mirrored = dict(_entries(folder, listed))
        _write_index(folder, mirrored, sign)
    unchanged = [name for name in chosen if before.get(name) == written[name]]
    return Published(folder, new, replaced, unchanged, _missing_parents(mirrored, ours), left_out)


def _choose(patterns: Sequence[str], ours: Entries) -> tuple[list[str], dict[str, str]]:
    """The names to publish, sorted; and those of failed experiments that only patterns match, with the reason."""
    named = {ours.find_or_raise(p).name for p in patterns if not _is_pattern(p)}
    matched = {name for p in patterns if _is_pattern(p) for name in _matching(p, ours)} - named
    tried = sorted(name for name in matched if is_user_entry(name))
    left_out = {name: why for name in tried if (why := _failure(ours[name])) is not None}
    return sorted(named | (matched - left_out.keys())), left_out


def _failure(card: Card) -> str | None:
    """Why an entry is a failed experiment, if it is one: how near its accuracy is to that of guessing."""
    if card.accuracy is None:
        return None
    chance, parent = 1 / card.num_classes, card.parent_accuracy
    what = f"{card.accuracy.correct} of {card.accuracy.total} right"
    if card.accuracy.share - chance < 0.1 * (1 - chance):
        return f"{what}, near the {100 * chance:.3g} % of guessing"
    if parent is not None and card.accuracy.share - chance < 0.5 * (parent.share - chance):
        return f"{what}, its parent {parent.correct}"
    return None


def _copy(card: Card, folder: Path, *, overwrite: bool) -> Card:
    """Copy an entry of this machine into a mirror; returns its card, today's if another process has replaced it."""

    def copied(path: Path, card: Card) -> Card:
        copy_entry(path, card, folder, overwrite=overwrite)
        return card

    try:
        return copied(verified_path(card), card)
    except ZooError:
        if find_local(card):
            raise
        return reading(lambda: fetch(card.name, mirror=()), copied)


def _is_pattern(text: str) -> bool:
    return any(char in text for char in "*?[")


def _matching(pattern: str, ours: Entries) -> list[str]:
    if not (matching := ours.matching(pattern)):
        raise ZooError(f"no entry matches {pattern!r}: zoo list shows those that there are")
    return matching


def _listed(folder: Path) -> list[str]:
    """The entries that the index of a mirror lists; none where there is no index yet."""
    try:
        return mirrors.fetch_index(str(folder.absolute())) if (folder / mirrors.INDEX).exists() else []
    except FetchError as error:
        raise ZooError(f"{folder} cannot be added to: {error}") from error


def _entries(folder: Path, listed: Collection[str]) -> Iterator[tuple[str, Card]]:
    """Name and card of each entry in a folder: cards whose checkpoint is there, or that were listed without one.

    Other JSON files are passed over.
    """
    for path in card_files(folder):
        with suppress(ZooError):
            card = read_card(path)
            if path.stem in listed or (folder / card.saved.name).is_file():
                yield path.stem, card


def _write_index(folder: Path, names: Collection[str], sign: Signer | None) -> None:
    """Write the index of the entries that lie in the folder, whatever a former index said, unless it is the same.

    With a key its signature too: a kill between them leaves one that is not of this index, until the next run.
    """
    contents = {name: (folder / f"{name}.json").read_bytes() for name in names} if sign else None
    path, index = folder / mirrors.INDEX, mirrors.index_bytes(names, contents)
    if not path.exists() or path.read_bytes() != index:
        with new_file(path) as out:
            out.write(index)
    signature = folder / mirrors.SIGNATURE
    if sign and not (signature.exists() and sign.has_signed(index, signature.read_bytes())):
        with new_file(signature) as out:
            out.write(sign.sign(mirrors.INDEX, index))


def _missing_parents(mirrored: Mapping[str, Card], ours: Mapping[str, Card]) -> dict[str, str]:
    """Entry -> parent, for parents that neither the mirror nor the package has, but that could be published."""
    parents = {name: card.parent for name, card in sorted(mirrored.items()) if card.parent is not None}
    return {name: p for name, p in parents.items() if p in ours and p not in mirrored and not is_shipped(p)}
