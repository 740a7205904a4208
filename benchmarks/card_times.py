"""Entries in folders and their checkpoints: what benchmarks/gpu_day and table3.py share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from zoo import store
from zoo.cards import Card

ROOT = Path(__file__).resolve().parent.parent


def default_folders() -> tuple[Path, ...]:
    """The folders of the shipped entries, of the user's own, and of this repository's mirror/."""
    return store.package_dir(), store.user_dir(), ROOT / "mirror"


def cards_in(folder: Path) -> Iterator[tuple[Path, Card]]:
    """The cards of a folder with their files, by name."""
    for path in sorted(folder.glob("[!.]*.json")):
        if path.name != store.INDEX:
            yield path, store.read_card(path)


def entries(folders: Iterable[Path]) -> tuple[dict[str, Card], list[str]]:
    """The cards of these folders by name, and a sentence for every other checkpoint that has the name of one; the first
    of a name counts."""
    first: dict[str, tuple[Card, Path]] = {}
    sentences = []
    for folder in folders:
        for path, card in cards_in(folder):
            other, place = first.setdefault(card.name, (card, folder))
            if other.saved != card.saved:
                sentences.append(f"{path} is not timed: {place} has another {card.name}")
    return {name: first[name][0] for name in sorted(first)}, sentences


def checkpoint_in(folders: Sequence[Path]) -> Callable[[Card], Path]:
    """A function that returns an entry's verified checkpoint: from these folders, from the zoo, or from a mirror."""

    def path(card: Card) -> Path:
        for folder in folders:
            if (file := folder / card.saved.name).is_file():
                store.verify_file(file, card)
                return file
        file = store.download(card.name)
        store.verify_file(file, card)  # another entry may have the name there
        return file

    return path
