"""Filters and order of `zoo list`, against cards of which it is known which ones are meant."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from zoo.cards import NO_PARENT, Accuracy, Card, File, Forward
from zoo.cards.licences import Licences
from zoo.display import COLUMNS, Query
from zoo.display.format import percent
from zoo.errors import ZooError


def card(name: str, **changes: Any) -> Card:
    arch, _, dataset = name.rpartition(".")
    parent = changes.get("parent")
    fields: dict[str, Any] = {
        "name": name,
        "arch": arch.partition("-")[0],
        "dataset": dataset,
        "num_classes": 10,
        "sample_shape": (3, 512),
        "widths": {"a": 1},
        "recipe": {"command": f"zoo train {name}"},
        "parameters": 1000,
        "file": File(name=f"{name}-00000000.safetensors", size=1, sha256="0" * 64),
        "licences": Licences(code="Apache-2.0", weights="MIT", data="made up", parent="GPL" if parent else NO_PARENT),
    }
    return Card(**fields | changes)


def timed(device: str, ms: float | None = None, ratio: float | None = None) -> Forward:
    return Forward(device=device, torch="2", batch=8, dtype="float32", mode="eager", ratio=ratio, median_ms=ms)


CARDS = {
    each.name: each
    for each in (
        card(
            "dgcnn-pruned-0.5x.shapes",
            parent="dgcnn.shapes",
            accuracy=Accuracy.of("test", 845, 1000),
            parameters=600_000,
            macs=300_000_000,
            forward=(
                timed("cpu", ratio=1.5),
                timed("cuda: NVIDIA H200", 2.0, 1.2),
                timed("cuda: NVIDIA A100", 4.0, 1.1),
            ),
        ),
        card(
            "dgcnn.shapes",
            accuracy=Accuracy.of("test", 860, 1000),
            parameters=1_800_000,
            macs=1_200_000_000,
            forward=(timed("cuda: NVIDIA A100", 5.0),),
        ),
        card(
            "net.apples",
            parent="old",
            licences=Licences(code="X", weights="as X", data="Only for [research]", parent="Y"),
        ),
        card(
            "resnet34.imagenet",
            sample_shape=(3, 224, 224),
            accuracy=Accuracy.of("test", 7, 10),
            parameters=21_000_000,
            macs=3_600_000_000,
        ),
    )
}
PRUNED, DENSE, NET, RESNET = CARDS


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, [PRUNED, DENSE, NET, RESNET]),
        ({"pattern": ("dgcnn*",)}, [PRUNED, DENSE]),
        ({"pattern": ("*-0.5x", "net", "absent")}, [PRUNED, NET]),
        ({"pattern": ("DGCNN",)}, [DENSE]),
        ({"arch": "dgcnn"}, [PRUNED, DENSE]),
        ({"arch": "ResNet*"}, [RESNET]),
        ({"arch": "gcnn"}, []),
        ({"dataset": "IMAGE*"}, [RESNET]),
        ({"dataset": "shapes"}, [PRUNED, DENSE]),
        ({"task": "image"}, [RESNET]),
        ({"task": "point"}, [PRUNED, DENSE, NET]),
        ({"task": "Point-Cloud"}, [PRUNED, DENSE, NET]),
        ({"task": "point-cloud classification"}, [PRUNED, DENSE, NET]),
        ({"task": "class"}, [PRUNED, DENSE, NET, RESNET]),
        ({"task": "cloud"}, []),
        ({"min_acc": 84.5}, [PRUNED, DENSE]),
        ({"min_acc": 0.845}, [PRUNED, DENSE]),
        ({"min_acc": 84.6}, [DENSE]),
        ({"min_acc": 0}, [PRUNED, DENSE, RESNET]),  # an accuracy that was not measured is none
        ({"max_params": 600_000}, [PRUNED, NET]),
        ({"max_params": 599_999}, [NET]),
        ({"max_macs": 1.2e9}, [PRUNED, DENSE]),
        ({"max_ms": 2}, [PRUNED]),
        ({"max_ms": 10}, [PRUNED, DENSE]),
        ({"max_ms": 4.5, "device": "*A100*"}, [PRUNED]),
        ({"max_ms": 3, "device": "*A100*"}, []),
        ({"max_ms": 10, "device": "cpu"}, []),
        ({"device": "cpu"}, [PRUNED]),
        ({"device": "cuda"}, [PRUNED, DENSE]),
        ({"device": "nvidia h200"}, [PRUNED]),
        ({"device": "cuda: NVIDIA H200"}, [PRUNED]),
        ({"parent": "dgcnn"}, [PRUNED]),
        ({"parent": "DGCNN.shapes"}, [PRUNED]),
        ({"parent": "*"}, [PRUNED, NET]),
        ({"licence": "mit"}, [PRUNED, DENSE, RESNET]),
        ({"licence": "apache*"}, [PRUNED, DENSE, RESNET]),
        ({"licence": "*research*"}, [NET]),
        ({"licence": "gpl"}, [PRUNED]),
        ({"arch": "dgcnn", "max_macs": 1e9, "min_acc": 80, "licence": "MIT"}, [PRUNED]),
    ],
)
def test_a_filter_keeps_what_it_says(asked: dict[str, Any], names: list[str]) -> None:
    found = Query(**asked).select(CARDS)
    assert list(found) == names
    assert all(found[name] is CARDS[name] for name in names)


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("name", [PRUNED, DENSE, NET, RESNET]),
        ("-name", [RESNET, NET, DENSE, PRUNED]),
        ("accuracy", [RESNET, PRUNED, DENSE, NET]),
        ("-accuracy", [DENSE, PRUNED, RESNET, NET]),
        ("params", [NET, PRUNED, DENSE, RESNET]),
        ("-macs", [RESNET, DENSE, PRUNED, NET]),
        ("ms", [PRUNED, DENSE, NET, RESNET]),
        ("-ms", [DENSE, PRUNED, NET, RESNET]),
        ("speed-up", [PRUNED, DENSE, NET, RESNET]),
        ("-speed-up", [PRUNED, DENSE, NET, RESNET]),
        ("dataset", [NET, RESNET, PRUNED, DENSE]),
        ("-dataset", [PRUNED, DENSE, RESNET, NET]),  # equal ones by name, also in reverse
        ("-MACs", [RESNET, DENSE, PRUNED, NET]),
    ],
)
def test_the_order_is_the_one_asked_for_and_what_is_missing_comes_last(sort: str, names: list[str]) -> None:
    for cards in (CARDS, dict(reversed(CARDS.items()))):
        assert list(Query(sort=sort).select(cards)) == names


def test_a_percentage_that_floats_cannot_hold_is_met_by_its_own_fraction() -> None:
    for thousandths in range(11, 1001):  # above 1 %, below which a number is a fraction
        exact = replace(CARDS[DENSE], accuracy=Accuracy.of("test", thousandths, 1000))
        assert Query(min_acc=float(f"{thousandths // 10}.{thousandths % 10}")).select({DENSE: exact}), thousandths


@pytest.mark.parametrize(("right", "bound", "kept"), [(844, 93, True), (843, 93, False), (844, 93.1, False)])
def test_what_is_shown_as_the_bound_is_kept(right: int, bound: float, kept: bool) -> None:
    shown = replace(CARDS[DENSE], accuracy=Accuracy.of("test", right, 908))  # 844 of 908 are 92.952 %
    assert (percent(shown.accuracy) == "93.0 %") == (right == 844)  # type: ignore[arg-type]
    assert bool(Query(min_acc=bound).select({DENSE: shown})) is kept


def test_without_an_order_cards_stay_as_they_came() -> None:
    backwards = dict(reversed(CARDS.items()))
    assert list(Query().select(backwards)) == list(backwards)


def test_a_device_decides_which_time_counts() -> None:
    on_a100, anywhere = Query(device="*a100"), Query()
    assert COLUMNS["ms"].value(anywhere.view(CARDS[PRUNED])) == 2.0
    assert COLUMNS["ms"].value(on_a100.view(CARDS[PRUNED])) == 4.0
    assert COLUMNS["speed-up"].text(anywhere.view(CARDS[PRUNED])) == "1.50x (cpu, batch 8)"
    assert COLUMNS["speed-up"].text(on_a100.view(CARDS[PRUNED])) == "1.10x (cuda, batch 8)"
    slow = card("z.shapes", forward=(timed("cuda: NVIDIA H200", 1.0), timed("cuda: NVIDIA A100", 9.0)))
    cards = {**CARDS, slow.name: slow}
    assert list(Query(device="cuda", sort="ms").select(cards)) == [slow.name, PRUNED, DENSE]
    assert list(Query(device="*A100", sort="ms").select(cards)) == [PRUNED, DENSE, slow.name]


@pytest.mark.parametrize(
    ("asked", "remarks"),
    [
        ({"arch": "dgcnn"}, []),
        ({"arch": "dgcn"}, ["no entry is a network of the kind 'dgcn': did you mean dgcnn?"]),
        ({"dataset": "shape"}, ["no entry was trained on 'shape': did you mean shapes?"]),
        (
            {"task": "imgae classification"},
            ["no entry is for 'imgae classification': did you mean image classification"],
        ),
        ({"device": "cudo"}, ["no entry was timed on 'cudo': did you mean cuda"]),
        ({"parent": "dgcn"}, ["no entry comes from 'dgcn': did you mean dgcnn"]),
        ({"licence": "apache"}, ["no entry has the licence 'apache': did you mean Apache-2.0?"]),
        ({"pattern": ("dgcn", "net")}, ["no entry matches 'dgcn': did you mean dgcnn?"]),
        ({"pattern": ("dgcnn.shape",)}, ["no entry matches 'dgcnn.shape': did you mean dgcnn.shapes"]),
        ({"min_acc": 90}, ["no entry has an accuracy of 90 % or more: the nearest is dgcnn.shapes with 86 %"]),
        (
            {"max_params": 999},
            ["no entry has a number of parameters of 999 or less: the nearest is net.apples with 1k"],
        ),
        ({"max_macs": 1e6}, [f"no entry has a number of MACs of 1M or less: the nearest is {PRUNED} with 300M"]),
        ({"max_ms": 1}, [f"no entry has a forward time of 1 ms or less: the nearest is {PRUNED} with 2 ms"]),
        ({"max_ms": 1, "device": "cpu"}, ["no entry has a forward time on 'cpu' of 1 ms or less: no card states any"]),
        ({"arch": "dgcn", "min_acc": 99}, ["no entry is a network", "no entry has an accuracy"]),
        ({"arch": "resnet34", "max_ms": 9}, ["no entry meets all of these conditions"]),
        ({"arch": "resnet34", "pattern": ("net",)}, ["no entry meets all of these conditions"]),
    ],
)
def test_a_condition_that_nothing_meets_is_named_with_what_is_near(asked: dict[str, Any], remarks: list[str]) -> None:
    said = Query(**asked).remarks(CARDS)
    assert len(said) == len(remarks)
    assert all(full.startswith(part) for full, part in zip(said, remarks, strict=True)), said


def test_where_no_card_has_such_a_word_the_remark_says_so() -> None:
    alone = {DENSE: replace(CARDS[DENSE], forward=())}
    assert Query(parent="x").remarks(alone) == ["no entry comes from 'x': no card names any"]
    assert Query(device="cpu").remarks(alone) == ["no entry was timed on 'cpu': no card names any"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"min_acc": 101}, "min-acc is 101: write percent, as 84.5, or a fraction"),
        ({"min_acc": -1}, "min-acc is -1: it must be a number from 0 up"),
        ({"max_ms": float("nan")}, "max-ms is nan"),
        ({"max_macs": float("inf")}, "max-macs is inf"),
        ({"sort": "acuracy"}, "no column 'acuracy' to sort by: did you mean accuracy"),
        ({"sort": "-"}, "no column '' to sort by"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(ZooError, match=reason):
        Query(**asked)


def test_queries_need_no_torch() -> None:
    code = "import sys, zoo.display.query; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
