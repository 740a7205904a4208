"""Mirrors: folders of cards and checkpoints, local, in a bundle, or behind http, whose ``index.json`` lists the cards.

    {"schema": 1, "cards": ["dgcnn.shapes.json", "dgcnn-pruned-0.5x.shapes.json"]}

A card is small and read first; its checkpoint's size and SHA-256 are then known before the first byte arrives. A mirror
may list a card without its checkpoint, too large for it: the card says how to make that again.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from zoo.cards import Card, parse_name, resolve_name
from zoo.errors import ZooError, suggest
from zoo.transfer import FetchError, NoSuchFileError, fetch, fetch_text, offline, shown
from zoo.utils import locked, sha256_of

SCHEMA = 1
INDEX = "index.json"


def configured_mirrors(mirror: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None) -> list[str]:
    """The given mirrors, or those of ``ZOO_MIRROR``; several stand in one text with commas between them.

    Raises:
        ZooError: what is given is none.
    """
    given = os.environ.get("ZOO_MIRROR", "") if mirror is None else mirror
    parts = given.split(",") if isinstance(given, str) else [given] if isinstance(given, os.PathLike) else given
    try:
        texts = [str(Path(part)) if isinstance(part, os.PathLike) else part.strip() for part in parts]
        if not all(isinstance(text, str) for text in texts):
            raise TypeError
    except (TypeError, AttributeError) as error:
        raise ZooError(f"{mirror!r} is no mirror: give a folder, an address, or a list of them") from error
    return [text for text in texts if text]


def index(base: str) -> list[str]:
    """The names of a mirror's entries, in its order.

    Raises:
        FetchError: it cannot be reached, or its index is none that this version reads.
    """
    text = fetch_text(base, INDEX)
    try:
        data = json.loads(text)
        schema = data["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FetchError(f"its {INDEX} is not a mirror's index") from error
    if type(schema) is not int or schema != SCHEMA:
        raise FetchError(
            f"its {INDEX} has schema {json.dumps(schema)[:20]}, this version of the zoo reads {SCHEMA}: "
            "type pip install --upgrade pruned-zoo"
        )
    files = data.get("cards")
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise FetchError(f"its {INDEX} is not a mirror's index")
    try:
        return [str(parse_name(file.removesuffix(".json"))) for file in files]
    except ZooError as error:
        raise FetchError(f"its {INDEX} lists what cannot be a card: {error}") from error


def index_of(entries: Iterable[str]) -> bytes:
    """The index of a mirror that has these entries: the same ones give the same bytes."""
    listed = {"schema": SCHEMA, "cards": [f"{name}.json" for name in sorted(set(entries))]}
    return (json.dumps(listed, indent=2) + "\n").encode()


def card(base: str, name: str) -> Card:
    """The card of an entry, by its full name.

    Raises:
        FetchError: it cannot be reached, or is no card, or another one's.
    """
    try:
        return Card.of_entry(fetch_text(base, f"{name}.json"), name)
    except FetchError:
        raise
    except ZooError as error:
        raise FetchError(f"{name}.json: {error}") from error


def bring(name: str, places: Sequence[str], folder: Path, *, known: Card | None = None) -> tuple[Path, Card]:
    """Fetch an entry's checkpoint into a folder from the first mirror that gives it whole; returns it with its card.

    A name without a data set means the most demanding one of the first mirror that has any. With ``known`` only that
    card's checkpoint will do.

    Raises:
        ZooError: no mirror gives it; each one's reason stands in the message.
    """
    reasons: list[str] = []
    listed: set[str] = set()
    for base in places:
        try:
            here = index(base)
            listed.update(here)
            try:
                full = resolve_name(name, here)
            except ZooError:  # the next mirror may have it
                continue
            found = card(base, full)
            if known is not None and known.saved != found.saved:
                raise FetchError(f"its {full} is another one than yours, with the same name")
            return _fetch_checkpoint(base, found, folder), found
        except FetchError as error:
            reasons.append(f"{shown(base)}: {error}")
    near = suggest(name, listed) if listed else ""
    if reasons:
        parts = [*reasons, *([f"the others have none of that name, {near}"] if len(reasons) < len(places) else [])]
        carry = f"; {bundled(name)}" if offline() else ""
        raise ZooError(f"cannot download {name}: {'; '.join(parts)}{carry}")
    raise ZooError(f"no model {name!r} on {', '.join(map(shown, places))}: {near or 'they are empty'}")


def _fetch_checkpoint(base: str, card: Card, folder: Path) -> Path:
    """Fetch a card's checkpoint into a folder unless it is there already; returns its path.

    A mirror may have the card alone, which then says how the checkpoint is made again.
    """
    saved, path = card.saved, folder / card.saved.name
    with locked(folder, path.name):
        if not (path.is_file() and sha256_of(path) == saved.sha256):  # another process was quicker
            try:
                fetch(base, path.name, path, size=saved.size, sha256=saved.sha256)
            except NoSuchFileError as error:
                raise FetchError(f"{error}; to make {card.name} again type {card.recipe['command']}") from error
    return path


def bundled(name: str) -> str:
    """What to type where there is no network."""
    file = shlex.quote(f"{name}.zip")
    return (
        f"where there is a network type zoo bundle {shlex.quote(name)} -o {file}, and here zoo bundle --install {file}"
    )
