"""Cards as benchmarks/gpu_day/forward.py times them."""

from dataclasses import replace
from pathlib import Path
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


def entries_with_weights(folder: Path) -> list[Card]:
    """A parent and a pruned child, with checkpoints that load."""
    from zoo.models import mlp
    from zoo.workflows import save_entry

    cards = []
    for name, widths in (("net.shapes", (7, 4)), ("net-small.shapes", (3, 2))):
        card = child(name, "net.shapes") if cards else plain(name)
        card = replace(card, widths=dict(zip(card.widths, widths, strict=True)), macs=sum(widths))
        model = mlp(num_classes=3, widths=card.widths, **card.options)
        cards.append(save_entry(model, card, folder))
    return cards
