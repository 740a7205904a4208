"""The sentences that `zoo info` begins with: only what the card states, and right."""

from dataclasses import replace
from typing import Any

import pytest

from zoo import store
from zoo.cards import NO_PARENT, Accuracy, Card, Forward
from zoo.cards.licences import Licences
from zoo.display.sentences import describe, describe_cost, explain_name

TIMED: dict[str, Any] = {"torch": "2", "dtype": "float32", "mode": "eager"}
CARD = Card(
    name="net-pruned-0.5x.shapes",
    arch="dgcnn",
    dataset="shapes",
    num_classes=20,
    sample_shape=(3, 512),
    widths={"a": 1},
    parent="net.shapes",
    recipe={"command": "zoo reprune net.shapes --eps 0.02"},
    accuracy=Accuracy.of("test", 866, 1024),
    parent_accuracy=Accuracy.of("test", 880, 1024),
    parameters=310_000,
    macs=280_000_000,
    licences=Licences(code="MIT", weights="MIT", data="made up", parent="MIT"),
)
PARENT = replace(
    CARD,
    name="net.shapes",
    parent=None,
    parent_accuracy=None,
    accuracy=Accuracy.of("test", 880, 1024),
    parameters=1_000_000,
    macs=1_000_000_000,
    recipe={"command": "zoo train dgcnn"},
    licences=replace(CARD.licences, parent=NO_PARENT),
)


def test_the_shipped_entry_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    card = store.info("dgcnn-pruned-0.5x.shapes")
    parent, accuracy, forward = store.info("dgcnn.shapes"), card.accuracy, card.forward[0]
    assert describe(card) == (
        f"dgcnn-pruned-0.5x.shapes is a DGCNN for point-cloud classification ({card.num_classes} classes of shapes; "
        "one input is 3 x 512), pruned from dgcnn.shapes."
    )
    text = describe_cost(card, parent)
    for part in (
        f"{accuracy.correct} of 1024 right instead of {card.parent_accuracy.correct}",
        f"{card.macs / parent.macs:.2f} of its MACs",
        f"{card.parameters / parent.parameters:.2f} of its parameters",
        f"{forward.ratio:.2f} times as fast on a cpu (batch {forward.batch}, {forward.ratio_low:.2f} to",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dgcnn-pruned-0.24m.shapes", "0.24m in the name: 0.24 of the MACs of the network at full width, rounded up."),
        ("dgcnn-pruned-0.3m-2.shapes", "0.3m in the name: 0.3 of the MACs of the network at full width, rounded up."),
        ("dgcnn-pruned-1m", "1m in the name: 1 of the MACs of the network at full width, rounded up."),
        (
            "dgcnn-pruned-0.5x-seed1.shapes",
            "0.5x in the name: no more MACs than the network that is built 0.5 times as wide.",
        ),
        ("dgcnn-0.75x-finetuned.shapes", "0.75x in the name: every layer is built 0.75 times as wide."),
        ("dgcnn.shapes", ""),
        ("mine-0.5x.shapes", ""),  # who chooses a name may mean anything by it
        ("dgcnn-0.5xl.shapes", ""),
    ],
)
def test_the_size_in_a_name_is_explained(name: str, text: str) -> None:
    assert explain_name(replace(CARD, name=name)) == text


def test_cost_and_gain_stand_beside_the_parents() -> None:
    forward = (
        Forward(device="cpu", batch=8, **TIMED, ratio=1.6685, ratio_low=1.5218, ratio_high=1.7853),
        Forward(device="cuda: X1", batch=32, **{**TIMED, "dtype": "bfloat16", "mode": "cuda_graph"}, ratio=0.9),
        Forward(device="cuda: X1", batch=1, **TIMED, median_ms=0.25),  # no parent beside it
    )
    assert describe_cost(replace(CARD, forward=forward), PARENT) == (
        "Beside its parent: 866 of 1024 right instead of 880 (84.6 % instead of 85.9 %, -1.4 points; "
        "95 % intervals 82.2-86.7 and 83.7-87.9), 0.28 of its MACs, 0.31 of its parameters, "
        "1.67 times as fast on a cpu (batch 8, 1.52 to 1.79), "
        "0.90 times as fast on a GPU (X1, batch 32, bfloat16, cuda graph)."
    )


def test_what_was_not_measured_is_not_mentioned() -> None:
    assert "instead" not in describe_cost(replace(CARD, parent_accuracy=None), PARENT)
    assert describe_cost(replace(CARD, accuracy=None, parent_accuracy=None, macs=None), PARENT) == (
        "Beside its parent: 0.31 of its parameters."
    )
    assert describe_cost(replace(CARD, accuracy=None, parent_accuracy=None)) == ""  # the parent's card is not here
    other = replace(PARENT, sample_shape=(3, 1024))
    assert "MACs" not in describe_cost(CARD, other)  # counted on other inputs


@pytest.mark.parametrize(
    ("own", "parents", "text"),
    [
        (900, 880, "900 of 1024 right instead of 880 (87.9 % instead of 85.9 %, +2.0 points;"),
        (880, 880, "880 of 1024 right, as many (85.9 %; 95 % interval 83.7-87.9)"),
    ],
)
def test_gains_and_ties_are_told_too(own: int, parents: int, text: str) -> None:
    card = replace(CARD, accuracy=Accuracy.of("test", own, 1024), parent_accuracy=Accuracy.of("test", parents, 1024))
    assert text in describe_cost(card)


def test_a_difference_is_never_rounded_to_nothing() -> None:
    many = 100_000
    card = replace(CARD, accuracy=Accuracy.of("test", 50_000, many), parent_accuracy=Accuracy.of("test", 50_001, many))
    assert ", -0.001 points;" in describe_cost(card)
    tiny = replace(CARD, parameters=1234)
    assert "0.0012 of its parameters" in describe_cost(tiny, PARENT)


def test_an_entry_without_parent_tells_its_own_numbers() -> None:
    assert describe(PARENT).endswith("(20 classes of shapes; one input is 3 x 512).")
    assert describe_cost(PARENT) == (
        "It has 880 of 1024 right (85.9 %; 95 % interval 83.7-87.9), 1M parameters, 1G MACs."
    )
    assert describe_cost(replace(PARENT, accuracy=None, macs=None)) == "It has 1M parameters."


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"arch": "mlp", "sample_shape": (5,)}, " is an MLP for classification (20 classes of shapes; one input is 5)"),
        ({"arch": "own_net"}, " is an own_net for point-cloud"),
        ({"arch": "my_net", "num_classes": 1}, " is a my_net for point-cloud classification (1 class of shapes;"),
        ({"sample_shape": (3, 32, 32)}, " for image classification (20 classes of shapes; one input is 3 x 32 x 32)"),
        ({"recipe": {"command": "zoo finetune net.shapes"}}, ", trained further from net.shapes."),
        (
            {"recipe": {"command": "zoo finetune x", "start": "x"}},
            ", trained further from x and compared with net.shapes.",
        ),
        ({"name": "n.cifar10", "dataset": "cifar10"}, "(20 classes of CIFAR-10 (JPEG); one input is"),
        ({"recipe": {"command": "python my.py"}}, ", made from net.shapes."),
    ],
)
def test_other_networks_and_origins(changes: dict[str, Any], text: str) -> None:
    assert text in describe(replace(CARD, **changes))
