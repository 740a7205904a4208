"""Mirrors: folders of cards and checkpoints, local, in a bundle, or behind http, whose ``index.json`` lists the cards.

    {"schema": 1, "cards": ["dgcnn.shapes.json", "dgcnn-pruned-0.5x.shapes.json"]}

The index of a signed mirror (`zoo.store.signatures`) has the SHA-256 of each card too: ``"sha256": {FILE: DIGEST}``.

The card of an entry is read first: it states size and SHA-256 of the checkpoint before the first byte of it arrives. A
mirror may list a card without its checkpoint, if that is too large for it: the card says how to make the entry again.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from zoo.cards import MAX_CARD, Card, find_name, parse_name
from zoo.errors import ZooError, excerpt, suggest
from zoo.store.signatures import ENDING, SignatureError, check_signature, demanded_key
from zoo.store.transaction import card_in, entry_lock, replacing
from zoo.transfer import FetchError, NoSuchFileError, download_bytes, download_file, offline, redact
from zoo.utils import parse_json, sha256_of

SCHEMA = 1
INDEX = "index.json"
SIGNATURE = INDEX + ENDING
_MAX_COMMAS = 1 << 19  # of an index: each entry has one, and one more where it is signed
_MAX_BRACKETS = 100_000  # an index of this version has three; each can take a hundred bytes of memory
Got = TypeVar("Got")


def configured_mirrors(mirror: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None) -> list[str]:
    """The addresses of the given mirrors, or of those of ``ZOO_MIRROR``; one text may hold several, with commas.

    Raises:
        ZooError: an argument of another type.
    """
    value = os.environ.get("ZOO_MIRROR", "") if mirror is None else mirror
    parts = value.split(",") if isinstance(value, str) else [value] if isinstance(value, os.PathLike) else value
    try:
        addresses = [str(Path(part)) if isinstance(part, os.PathLike) else part.strip() for part in parts]
        if not all(isinstance(address, str) for address in addresses):
            raise TypeError
    except (TypeError, AttributeError) as error:
        raise ZooError(f"{type(mirror).__name__} is no mirror: give a folder, an address, or a list of them") from error
    return [address for address in addresses if address]


@dataclass(frozen=True)
class Mirror:
    """A mirror whose index was read, and verified if a key is demanded.

    base    its address
    cards   the SHA-256 of each card, by the name of the entry, in the order of the index; "" where it states none
    signed  only the cards with these SHA-256 will do
    """

    base: str
    cards: Mapping[str, str]
    signed: bool


def open_mirror(base: str) -> Mirror:
    """Read a mirror's index, and verify its signature if `demanded_key` says with which key.

    Raises:
        FetchError: the mirror cannot be reached, its index is not signed with that key, or this version cannot read it.
    """
    text, key = download_bytes(base, INDEX), demanded_key()
    if key is not None:
        check_signature(base, INDEX, text, key)
    return Mirror(base, _cards(text), signed=key is not None)


def fetch_index(base: str) -> list[str]:
    """The names of a mirror's entries, in the order of its index, whoever made it.

    Raises:
        FetchError: the mirror cannot be reached, or this version cannot read its index.
    """
    return list(_cards(download_bytes(base, INDEX)))


def _cards(text: bytes) -> dict[str, str]:
    """What an index states of each card, as `Mirror.cards`."""
    if text.count(b",") > _MAX_COMMAS or text.count(b"{") + text.count(b"[") > _MAX_BRACKETS:
        raise FetchError(f"its {INDEX} has more items than a mirror's index can have")
    try:
        data = parse_json(text)
    except ValueError as error:
        raise FetchError(f"its {INDEX} is not a mirror's index: {error}") from error
    index = data if isinstance(data, dict) else {"schema": SCHEMA}
    schema, files, digests = index.get("schema"), index.get("cards"), index.get("sha256")
    if type(schema) is not int or schema != SCHEMA:
        raise FetchError(
            f"its {INDEX} has schema {excerpt(schema, json.dumps)}, this version of the zoo reads {SCHEMA}: "
            "type pip install --upgrade pruned-zoo"
        )
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise FetchError(f"its {INDEX} is not a mirror's index")
    digests = digests if isinstance(digests, dict) else {}
    try:
        return {str(parse_name(file.removesuffix(".json"))): str(digests.get(file, "")) for file in files}
    except ZooError as error:
        raise FetchError(f"its {INDEX} lists what cannot be a card: {error}") from error


def index_bytes(names: Iterable[str], signed_cards: Mapping[str, bytes] | None = None) -> bytes:
    """The index of a mirror with entries of these names: the same names give the same bytes.

    signed_cards  the content of each card, by the name of the entry, for an index that is to be signed
    """
    index: dict[str, object] = {"schema": SCHEMA, "cards": [f"{name}.json" for name in sorted(set(names))]}
    if signed_cards is not None:
        index["sha256"] = {f"{name}.json": sha256(card).hexdigest() for name, card in sorted(signed_cards.items())}
    return (json.dumps(index, indent=2) + "\n").encode()


def fetch_card(mirror: Mirror, name: str) -> Card:
    """The card of a mirror's entry, by its full name.

    Raises:
        FetchError: the mirror cannot be reached, or gives no card, the card of another entry, or another card than the
            signed index has.
    """
    content = download_bytes(mirror.base, f"{name}.json", limit=MAX_CARD)
    if mirror.signed and sha256(content).hexdigest() != mirror.cards[name]:
        raise SignatureError(f"{name}.json is not the card whose SHA-256 the signed index has")
    try:
        return Card.of_entry(content, name)
    except FetchError:
        raise
    except ZooError as error:
        raise FetchError(f"{name}.json: {error}") from error


def download_from(
    name: str, bases: Sequence[str], folder: Path, *, expected: Card | None = None,
    before_adding: Callable[[Card], object] | None = None,
) -> tuple[Path, Card]:  # fmt: skip
    """Download an entry into a folder from the first mirror that gives it; returns the checkpoint's path and the card.

    A name without a data set means the entry on the most difficult data set of the first mirror that has one.

    expected       only the checkpoint of this card will do; it comes without its card, which lies elsewhere
    before_adding  is called with the card before the entry is one of the folder

    Raises:
        ZooError: no mirror gives the checkpoint; the message has the reason of each mirror.
    """

    def get(mirror: Mirror, full_name: str) -> tuple[Path, Card]:
        card = fetch_card(mirror, full_name)
        while True:
            if expected is not None and expected.saved != card.saved:
                raise FetchError(f"its {full_name} is another one than yours, with the same name")
            try:
                return _download_entry(mirror.base, card, folder, expected is None, before_adding), card
            except NoSuchFileError as error:
                old, card = card, fetch_card(mirror, full_name)
                if old.saved == card.saved:  # and not one that was published meanwhile
                    raise FetchError(f"{error}; to make {card.name} again type {card.recipe['command']}") from error

    return _from_first(name, bases, get)


def find_card(name: str, bases: Sequence[str]) -> Card:
    """The card of the entry that `download_from` would download first. Raises ZooError as that."""
    return _from_first(name, bases, fetch_card)


def _from_first(name: str, bases: Sequence[str], get: Callable[[Mirror, str], Got]) -> Got:
    """What `get` makes of (mirror, full name), of the first mirror that gives it."""
    reasons: list[str] = []
    listed: set[str] = set()
    for base in bases:
        try:
            mirror = open_mirror(base)
            listed.update(mirror.cards)
            if full_name := find_name(name, mirror.cards):  # otherwise the next mirror may have the entry
                return get(mirror, full_name)
        except FetchError as error:
            reasons.append(f"{redact(base)}: {error}")
    near = suggest(name, listed) if listed else ""
    if reasons:
        if len(reasons) < len(bases):
            reasons.append(f"the others have none of that name, {near}")
        carry = f"; {how_to_carry(name)}" if offline() else ""
        raise ZooError(f"cannot download {name}: {'; '.join(reasons)}{carry}")
    raise ZooError(f"no model {name!r} on {', '.join(map(redact, bases))}: {near or 'they are empty'}")


def _download_entry(
    base: str, card: Card, folder: Path, as_entry: bool, before_adding: Callable[[Card], object] | None
) -> Path:  # fmt: skip
    """Download the checkpoint of a card, and save the card with it if they are to be an entry of the folder."""
    file, path = card.saved, folder / card.saved.name
    with entry_lock(folder, card.name):
        # Another process may have downloaded the file while this one waited for the lock.
        there = path.is_file() and sha256_of(path) == file.sha256
        if there and (not as_entry or card_in(folder, card.name) == card):
            return path
        with replacing(folder, card) if as_entry else nullcontext():
            if not there:
                download_file(base, file.name, path, size=file.size, sha256=file.sha256)
            if as_entry and before_adding is not None:
                before_adding(card)
    return path


def how_to_get(name: str, bases: Iterable[str]) -> str | None:
    """A sentence that says what to type for an entry that one of these mirrors has, if it is one on this machine."""
    for base in bases:
        address = base.removeprefix("file://")
        if "://" in address:  # no error waits for a network
            continue
        try:
            mirror = open_mirror(base)
            if (full_name := find_name(name, mirror.cards)) is None:
                continue
            card = fetch_card(mirror, full_name)
        except ZooError:
            continue
        if Path(address).is_dir() and not (Path(address) / card.saved.name).is_file():
            return f"the mirror {base} has its card alone: to make it again type {card.recipe['command']}"
        return f"the mirror {base} has {card.name}: type {shlex.join(['zoo', 'download', card.name, '--mirror', base])}"
    return None


def how_to_carry(name: str) -> str:
    """What to type where there is no network."""
    file = shlex.quote(f"{name}.zip")
    return (
        f"where there is a network type zoo bundle {shlex.quote(name)} -o {file}, and here zoo bundle --install {file}"
    )
