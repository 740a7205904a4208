"""Cards as benchmarks/gpu_day/forward.py times them."""

from dataclasses import replace
from typing import Any

from store_entries import plain

from zoo.cards import Card, File, Forward
from zoo.cards.licences import Licences

PARENT = {"licences": Licences(code="Apache-2.0", weights="Apache-2.0", data="none", parent="Apache-2.0")}


def child(name: str, parent: str, **changes: Any) -> Card:
    return plain(name, parent=parent, **PARENT, **changes)


def record(**changes: Any) -> Forward:
    usual = {"device": "cuda: X", "torch": "2", "batch": 32, "dtype": "float32", "mode": "eager", "median_ms": 2.0}
    return Forward(**{**usual, **changes})


def by_name(*cards: Card) -> dict[str, Card]:
    """The cards as they are read: with a file."""
    file = {"name": "{}-00000000.safetensors", "size": 1, "sha256": "0" * 64}
    return {card.name: replace(card, file=File(**{**file, "name": file["name"].format(card.name)})) for card in cards}
