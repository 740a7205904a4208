"""Cards of earlier versions are read with the defaults that they lived by."""

from __future__ import annotations

import json
from typing import Any

import pytest
from store_entries import plain
from timed_cards import PARENT

from zoo.cards import Card, File
from zoo.cards.old_defaults import write_out

OLD = "zoo reprune net.shapes --method combined --images 128 --seed 0"


@pytest.mark.parametrize(
    ("more", "settings", "added"),
    [
        # a tolerance: every width was kept, and the samples that chose neurons judged
        ("", {"eps": 0.1}, " --round-to 1 -O search.holdout=0.0 --recovery 0"),
        # a target that widths met
        ("", {"target_macs": 0.5}, " --round-to 1 --recovery 0"),
        ("", {"target_macs": 0.5, "round_to": None}, " --round-to 1 --recovery 0"),
        ("", {"target_macs": 0.5, "eps": None}, " --round-to 1 --recovery 0"),
        (" --round-to 8", {"target_macs": 0.5, "round_to": 8}, " --recovery 0"),
    ],
)
def test_what_was_the_default_is_written_out(more: str, settings: dict[str, Any], added: str) -> None:
    recipe = {"command": OLD + more, "method": "combined", **settings}
    read = write_out(recipe)
    assert read["command"] == OLD + more + added
    assert (read["round_to"], read["recovery"]) == (settings.get("round_to") or 1, 0)
    assert read.get("holdout") == (0.0 if settings.get("eps") is not None else None)
    assert {key: read[key] for key in settings if key != "round_to"}.items() <= settings.items()
    assert write_out(read) == read  # once


@pytest.mark.parametrize(
    "recipe",
    [
        {"command": "zoo train net --dataset shapes"},
        {"command": "zoo finetune net.shapes --epochs 1"},
        {"command": OLD + " --recovery 1024", "eps": 0.1, "recovery": 1024},
        {"command": OLD, "eps": 0.1, "recovery": 0},
        {"command": None},
        {},
    ],
)
def test_other_cards_are_read_as_they_are(recipe: dict[str, Any]) -> None:
    assert write_out(recipe) == recipe


def test_a_card_is_read_so_and_survives_the_round_trip() -> None:
    file = File(name="net-pruned.shapes-00000000.safetensors", size=1, sha256="0" * 64)
    old = plain("net-pruned.shapes", parent="net.shapes", recipe={"command": OLD, "eps": 0.1}, file=file, **PARENT)
    read = Card.from_json(old.to_json())
    assert read.recipe == {
        "command": f"{OLD} --round-to 1 -O search.holdout=0.0 --recovery 0", "eps": 0.1, "holdout": 0.0, "recovery": 0,
        "round_to": 1,
    }  # fmt: skip
    assert Card.from_json(read.to_json()) == read
    assert json.loads(Card.from_json(read.to_json()).to_json()) == json.loads(read.to_json())
