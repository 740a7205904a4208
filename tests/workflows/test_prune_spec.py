"""How far an entry is pruned, and how: the record, its checks, and its goal on a card."""

from __future__ import annotations

from typing import Any

import pytest

from zoo import ZooError
from zoo.prune import Budget
from zoo.workflows import PruneSpec


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Give one goal"),
        ({"eps": 0.1, "budget": Budget(macs=0.5)}, "Give one goal"),
        ({"eps": float("nan")}, "not negative; got nan"),
        ({"eps": 0.1, "samples": 0}, "0 samples are too few to prune on"),
        ({"eps": 0.1, "seed": -1}, "the seed is"),
    ],
)
def test_what_cannot_be_is_refused_when_the_record_is_made(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ZooError, match=message):
        PruneSpec(**fields)


def test_the_goal_on_a_card() -> None:
    assert PruneSpec(eps=0.02).goal_on_card() == {"eps": 0.02}
    goal = PruneSpec(budget=Budget(milliseconds=3, minimum=4)).goal_on_card()
    assert goal == {"eps": None, "target_ms": 3.0, "min_width": 4}
    assert PruneSpec(budget=Budget(parameters=0.5)).goal_on_card()["min_width"] is None
