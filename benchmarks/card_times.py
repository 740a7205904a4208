"""Entries in folders, and forward times onto their cards: what zoo_times.py, onto_cards.py and table3.py share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from zoo import store
from zoo.cards import Card, Forward
from zoo.utils import new_file

ROOT = Path(__file__).resolve().parent.parent


def default_folders() -> tuple[Path, ...]:
    """What is shipped, your own entries, and this repository's mirror/."""
    return store.package_dir(), store.user_dir(), ROOT / "mirror"


def entries(folders: Iterable[Path]) -> tuple[dict[str, Card], list[str]]:
    """The cards of these folders by name, the first of a name counts; and a sentence for every other checkpoint that
    has the name of one."""
    found: dict[str, tuple[Card, Path]] = {}
    said = []
    for folder in folders:
        for place in sorted(folder.glob("[!.]*.json")):
            if place.name == store.INDEX:
                continue
            card = store.read_card(place)
            first, where = found.setdefault(card.name, (card, folder))
            if first.saved != card.saved:
                said.append(f"{place} is not timed: {where} has another {card.name}")
    return {name: found[name][0] for name in sorted(found)}, said


def checkpoint_in(folders: Sequence[Path], mirror: Sequence[str] = ()) -> Callable[[Card], Path]:
    """Finds an entry's checkpoint: in these folders, in the zoo, or on a mirror."""

    def path(card: Card) -> Path:
        for folder in folders:
            if (file := folder / card.saved.name).is_file():
                store.verify_file(file, card)
                return file
        file = store.download(card.name, mirror=mirror or None)
        store.verify_file(file, card)  # another entry may have the name there
        return file

    return path


def setting(record: Forward) -> tuple[str, int, str, str]:
    """What a card has one record of: device, batch, type and mode."""
    return record.device, record.batch, record.dtype, record.mode


def written(card: Card, record: Forward) -> Card:
    """The card with the record in the place of the one of the same device, batch, type and mode, or as the last.

    One that was timed beside its parent is not replaced by one that was timed alone.
    """
    old = [each for each in card.forward if setting(each) != setting(record)]
    at = next((i for i, each in enumerate(card.forward) if setting(each) == setting(record)), len(old))
    if at < len(card.forward) and card.forward[at].ratio is not None and record.ratio is None:
        return card
    return replace(card, forward=(*old[:at], record, *old[at:]))


def write(card: Card, record: Forward, folders: Iterable[Path]) -> list[Path]:
    """Put the record onto the entry's card in each folder that has this very checkpoint; returns the cards' files."""
    places = []
    for folder in folders:
        place = folder / f"{card.name}.json"
        if place.is_file() and (now := store.read_card(place)).saved.sha256 == card.saved.sha256:
            with new_file(place) as out:
                out.write(written(now, record).to_json().encode())
            places.append(place)
    return places
