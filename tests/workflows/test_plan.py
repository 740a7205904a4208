"""What `zoo reprune` says before it starts."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from zoo.models import build
from zoo.prune import PAPER, Budget, Options, Search, resolve_config
from zoo.workflows import Finetune, PruneSpec, RunOptions
from zoo.workflows.plan import Plan, _duration


def plan(**changes: Any) -> Plan:
    """A plan for a DGCNN of which 880 of 1024 are right, on 512 samples; 0.01 s a sample."""
    split = SimpleNamespace(sample_shape=(3, 512))
    options, method = changes.pop("options", Options()), changes.pop("method", "repaired")
    budget = changes.pop("budget", None)
    spec = PruneSpec(eps=None if budget else 0.02, budget=budget)
    given = {
        "parent": SimpleNamespace(name="dgcnn.shapes", model=build("dgcnn", num_classes=20)),
        "splits": SimpleNamespace(
            train=type("Train", (), {"sample_shape": (3, 512), "__len__": lambda self: 4096})(),
            test=range(1024), spec=SimpleNamespace(test_name="test"), shape=split,
        ),
        "measured": SimpleNamespace(
            counts=SimpleNamespace(parameters=1_804_000, macs=1_196_000_000),
            evaluation=SimpleNamespace(correct=880, total=1024),
        ),
        "seconds": 0.01, "config": resolve_config(method, options, budget), "spec": spec, "samples": 512,
        "recovery": 1024, "finetune": Finetune(), "run": RunOptions(output_dir=Path("mine")), **changes,
    }  # fmt: skip
    return Plan(**given)


def test_a_tolerance() -> None:
    lines = plan().text(None).splitlines()
    assert lines[:3] == [
        "dgcnn.shapes: 1.804M parameters, 1.196G MACs, 880 of 1024 right (85.9 %)",
        "Pruning 7 groups by method repaired on 512 training clouds (384 choose neurons, 128 judge), "
        "tolerance 0.02 nats a group; widths in multiples of 8, readers solved anew.",
        "Then recovery: 3 passes over 1024 training samples towards the parent's outputs.",
    ]
    assert re.fullmatch(r"About \d+ (s|min) on this machine \(\d+ cores\)\. It will be saved in mine\.", lines[3])


def test_the_papers_search_holds_nothing_out_and_has_no_recovery() -> None:
    lines = plan(options=Options(search=PAPER), method="combined", recovery=0).text(["edge1"]).splitlines()
    assert lines[1] == (
        "Pruning 1 group by method combined on 512 training clouds, tolerance 0.02 nats a group; any width."
    )
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("budget", "goal"),
    [
        (Budget(macs=0.5), "to 0.5 of the macs"),
        (Budget(parameters=500_000), "to 500k parameters"),
        (Budget(milliseconds=30), "to 30 milliseconds"),
    ],
)
def test_a_target(budget: Budget, goal: str) -> None:
    """It holds nothing out where no tolerance decides."""
    text = plan(budget=budget, finetune=Finetune(epochs=8), recovery=0, options=Options(Search(round_to=16))).text(None)
    assert f"on 512 training clouds, {goal}; widths in multiples of 16, readers solved anew." in text
    assert "Then fine-tuning for 8 epochs." in text
    assert "recovery" not in text


def test_more_work_takes_longer() -> None:
    def seconds(**changes: Any) -> float:
        return plan(**changes)._estimate(7)

    assert seconds() < seconds(recovery=4096) < seconds(recovery=4096, samples=2048)
    assert seconds(seconds=0.02) == pytest.approx(2 * seconds())
    assert [_duration(s) for s in (0.2, 7.4, 84, 300, 7200)] == ["1 s", "7 s", "80 s", "5 min", "2.0 h"]
