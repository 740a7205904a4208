"""Cards: the interval against the equation it solves, the round trip, and every field's refusal with its reason."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from zoo.cards import NO_PARENT, Accuracy, Card, File, Forward, licences_of_trained, wilson_interval
from zoo.cards.licences import Licences
from zoo.errors import ZooError

CARD = Card(
    name="dgcnn-pruned-0.5x.shapes",
    arch="dgcnn",
    dataset="shapes",
    num_classes=12,
    sample_shape=(3, 512),
    options={"k": 20},
    widths={"edge1": 31, "linear2": 200},
    parent="dgcnn.shapes",
    recipe={
        "command": "zoo reprune dgcnn.shapes --eps 0.02",
        "eps": 0.02,
        "recovery": 1024,
        "seed": 0,
        "left": ("a", 1),
        "none": None,
    },
    accuracy=Accuracy.of("test", 900, 1000),
    parent_accuracy=Accuracy.of("test", 910, 1000),
    cross_entropy=0.5,
    parameters=600_000,
    macs=10**9,
    macs_paper=10**9 + 5,
    forward=(
        Forward(
            device="cpu", torch="2.4", batch=8, dtype="float32", mode="eager", ratio=1.6, ratio_low=1.5, ratio_high=2.0
        ),
        Forward(device="cuda: X", torch="2.4", batch=1, dtype="bfloat16", mode="graph", median_ms=0.25, p95_ms=0.3),
    ),
    file=File(name="dgcnn-pruned-0.5x.shapes-00000000.safetensors", size=2_400_000, sha256="0" * 64),
    licences=Licences(code="Apache-2.0", weights="Apache-2.0", data="generated", parent="MIT"),
)
LONE = {"parent": None, "licences": replace(CARD.licences, parent=NO_PARENT)}


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (10, 10), (1, 3), (827, 908), (9_999, 10_000)])
def test_wilson_gives_the_two_shares_that_are_just_not_rejected(correct: int, total: int) -> None:
    # The interval's ends p are where the score test is at its limit: |correct/total - p| = z sqrt(p (1 - p) / total).
    for end in wilson_interval(correct, total):
        limit = 1.959963984540054 * math.sqrt(end * (1 - end) / total)
        assert abs(correct / total - end) == pytest.approx(limit, abs=2e-4 if end in (0, 1) else 2e-6)


def test_wilson_gives_the_published_interval() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I: 81 of 263
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.parametrize(("correct", "total"), [(1, 0), (0, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_impossible_counts(correct: int, total: int) -> None:
    with pytest.raises(ZooError, match="0 <= correct <= total"):
        wilson_interval(correct, total)


def test_a_card_survives_the_round_trip_and_is_stable() -> None:
    text = CARD.to_json()
    assert Card.from_json(text) == CARD
    assert Card.from_json(text).to_json() == text
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))
    shuffled = replace(CARD, widths=dict(reversed(CARD.widths.items())))
    assert shuffled.to_json() == text


def test_absent_numbers_stay_absent() -> None:
    bare = replace(CARD, **LONE, accuracy=None, parent_accuracy=None, cross_entropy=None, macs=None, forward=())
    data = json.loads(bare.to_json())
    assert not {"parent", "accuracy", "parent_accuracy", "cross_entropy", "macs"} & data.keys()
    assert Card.from_json(bare.to_json()) == bare
    assert "none" in data["recipe"]  # a setting that was null is not an absent one


def test_cards_are_read_without_torch() -> None:
    code = "import sys, zoo.cards; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


ACCURACY = json.loads(CARD.to_json())["accuracy"]
CPU, GPU = json.loads(CARD.to_json())["forward"]
FILE = json.loads(CARD.to_json())["file"]
TERMS = json.loads(CARD.to_json())["licences"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"schema": 3}, r"the card has schema 3, this version of the zoo reads 2: type pip install --upgrade"),
        ({"schema": 0}, "schema 0 is not 2"),
        ({"schema": True}, "schema: expected int, got true"),
        ({"schema": ...}, "schema is missing"),
        ({"name": "a/../b"}, "not a model name"),
        ({"name": "dgcnn.modelnet10"}, "the name says data set modelnet10, the card says shapes"),
        ({"name": 3}, "name: expected str, got 3"),
        ({"arch": "../dgcnn"}, "arch"),
        ({"dataset": ""}, "dataset"),
        ({"parent": "dgcnn-pruned-0.5x.shapes"}, "its own parent"),
        ({"parent": "/etc/passwd"}, "not a model name"),
        ({"parent": ...}, "need a parent"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"num_classes": True}, "num_classes: expected int, got true"),
        ({"num_classes": 12.0}, "num_classes: expected int, got 12.0"),
        ({"sample_shape": []}, "sample_shape is empty"),
        ({"sample_shape": [3, -1]}, r"sample_shape\[1\] is -1"),
        ({"sample_shape": "3x512"}, "sample_shape: expected a list"),
        ({"sample_shape": [1] * 1001}, "at most 1000"),
        ({"widths": {"edge1": 0}}, "widths: edge1 is 0"),
        ({"widths": {"edge1": "31"}}, "widths: edge1: expected int"),
        ({"widths": [31]}, "widths: expected an object"),
        ({"options": {"k": {"deep": 1}}}, "options: k: expected"),
        ({"recipe": {"eps": 0.02}}, "command"),
        ({"recipe": {"command": " "}}, "command"),
        ({"recipe": {"command": "x", "curve": [[1]]}}, r"recipe: curve\[0\]"),
        ({"parameters": -1}, "parameters is -1"),
        ({"parameters": None}, "parameters: expected int, got null"),
        ({"macs": -5}, "macs is -5"),
        ({"macs_paper": "1e9"}, "macs_paper: expected int or null"),
        ({"cross_entropy": -0.1}, "cross_entropy -0.1"),
        ({"accuracy": {**ACCURACY, "correct": 1001}}, "1001 of 1000"),
        ({"accuracy": {**ACCURACY, "low": 0.89}}, "the interval 0.89 to"),
        ({"accuracy": {**ACCURACY, "top5": 1}}, "accuracy: unknown field 'top5'"),
        ({"accuracy": 0.9}, "accuracy: expected object or null"),
        ({"accuracy": ...}, "same run"),
        ({"parent_accuracy": {**ACCURACY, "split": "train"}}, "same run"),
        ({"forward": [{**CPU, "median_ms": 1.5}]}, "this one is a cpu"),
        ({"forward": [{**CPU, "device": "Xeon"}]}, "must begin with cpu"),
        ({"forward": [{**CPU, "ratio": 0}]}, "not a positive number"),
        ({"forward": [{**CPU, "ratio": 3}]}, "lies outside"),
        ({"forward": [{k: v for k, v in CPU.items() if k != "ratio"}]}, "needs a ratio"),
        ({"forward": [{k: v for k, v in CPU.items() if k != "ratio_low"}]}, "come together"),
        ({"forward": [{**GPU, "batch": 0}]}, "batch 0"),
        ({"file": {**FILE, "name": "../x.safetensors"}}, "plain file name"),
        ({"file": {**FILE, "name": "/x.safetensors"}}, "plain file name"),
        ({"file": {**FILE, "name": "a..safetensors"}}, "plain file name"),
        ({"file": {**FILE, "name": "a\\b.safetensors"}}, "plain file name"),
        ({"file": {**FILE, "name": "x.pt"}}, "plain file name"),
        ({"file": {**FILE, "size": 0}}, "size 0"),
        ({"file": {**FILE, "sha256": "0" * 63}}, "not 64 hexadecimal"),
        ({"file": {**FILE, "sha256": "G" * 64}}, "not 64 hexadecimal"),
        ({"file": ...}, "file is missing"),
        ({"licences": {"code": "MIT", "weights": "MIT", "parent": "MIT"}}, "licences: the field data is missing"),
        ({"licences": {"code": "MIT", "weights": "MIT", "data": "MIT"}}, "licences: the field parent is missing"),
        ({"licences": {**TERMS, "weights": ""}}, "weights is empty; write 'unknown' where it is not known$"),
        ({"licences": {**TERMS, "parent": " "}}, "parent is empty; write 'unknown' .* or 'no parent' where"),
        ({"licences": {**TERMS, "parent": "no parent"}}, r"the card's parent is dgcnn\.shapes; write the terms"),
        ({"licences": {**TERMS, "parents": "MIT"}}, "licences: unknown field 'parents'"),
    ],
)
def test_a_wrong_card_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    data = {**json.loads(CARD.to_json()), **changes}
    text = json.dumps({key: value for key, value in data.items() if value is not ...})
    with pytest.raises(ZooError, match=reason):
        Card.from_json(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("<html>", "not JSON"),
        ("[]", "expected an object"),
        ('{"schema": NaN}', "NaN is not a number"),
        (CARD.to_json().replace("0.5,", "1e999,", 1), "the number is too large"),
        (CARD.to_json().replace('"macs":', '"schema": 1, "macs":'), "stands there twice"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_card_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ZooError, match=reason):
        Card.from_json(text)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(ZooError, match="not JSON"):
        Card.from_json(b"\xff\xfe\x00\xd8")


def test_a_card_made_in_python_is_checked_too() -> None:
    with pytest.raises(ZooError, match="num_classes is -1"):
        replace(CARD, num_classes=-1)
    with pytest.raises(ZooError, match="has no file yet"):
        _ = replace(CARD, file=None).saved


def test_a_card_under_another_entrys_name_is_refused() -> None:
    with pytest.raises(ZooError, match=r"the card of dgcnn-pruned-0\.5x\.shapes, not of dgcnn"):
        Card.of_entry(CARD.to_json(), "dgcnn")


def test_terms_of_a_parent_need_a_parent() -> None:
    bare = replace(CARD, **LONE, parent_accuracy=None, forward=())
    with pytest.raises(ZooError, match="parent is 'MIT', but the card names no parent; write 'no parent'"):
        replace(bare, licences=CARD.licences)


def test_a_card_of_an_early_version_is_refused_with_what_to_do() -> None:
    with pytest.raises(ZooError, match="schema 1 is not 2: an early version wrote it; make the entry again"):
        Card.from_json(json.dumps({**json.loads(CARD.to_json()), "schema": 1}))


def test_the_task_is_told_by_the_shape_of_the_inputs_and_not_stored() -> None:
    assert CARD.task == "point-cloud classification"
    assert replace(CARD, sample_shape=(3, 224, 224)).task == "image classification"
    assert replace(CARD, sample_shape=(5,)).task == "classification"
    assert "task" not in json.loads(CARD.to_json())


def test_what_is_trained_here_inherits_the_terms_of_its_data_and_states_its_parents() -> None:
    assert licences_of_trained("shapes").parent == "no parent"
    assert licences_of_trained("shapes", "CC-BY-4.0") == Licences(
        code="Apache-2.0", weights="Apache-2.0", data="generated (no third-party data)", parent="CC-BY-4.0"
    )
    terms = licences_of_trained("imagenet")
    assert "non-commercial" in terms.data
    assert terms.weights == f"as the data: {terms.data}"
    with pytest.raises(ZooError, match="did you mean imagenet"):
        licences_of_trained("imagenett")
