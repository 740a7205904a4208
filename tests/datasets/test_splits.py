"""A part of the training split held out: the same one for everybody, of every class, and the test split left alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from zoo import ZooError, store
from zoo.cli import main
from zoo.datasets import load, train_val_split
from zoo.workflows import data_spec


def test_both_parts_are_the_whole_and_every_class_is_held_out_alike() -> None:
    train = load("shapes", "train", points=16)
    kept, held = train_val_split(train, 0.1)
    assert sorted(kept.indices + held.indices) == list(range(len(train)))
    assert len(kept) + len(held) == len(train)
    of_class = Counter(train.label(i) for i in range(len(train)))
    for label, number in Counter(held.label(i) for i in range(len(held))).items():
        assert abs(number - 0.1 * of_class[label]) <= 0.5
    for i in (0, 7, len(held) - 1):
        x, y = held[i]
        assert torch.equal(x, train[held.indices[i]][0])
        assert y == train[held.indices[i]][1]
    assert train_val_split(train, 0.1)[1].indices == held.indices
    assert held.num_classes == train.num_classes
    assert held.sample_shape == train.sample_shape


def test_what_is_kept_is_varied_by_the_epoch() -> None:
    kept, _ = train_val_split(load("shapes", "train", points=16, augment=True), 0.5)
    first = kept[3][0]
    assert torch.equal(first, kept[3][0])
    kept.set_epoch(1)
    assert not torch.equal(first, kept[3][0])


@pytest.mark.parametrize("part", [0.0, 1.0, -0.1, 1e-9, 0.9999999])
def test_parts_that_leave_nothing(part: float) -> None:
    with pytest.raises(ZooError, match=r"validation part is|leaves nothing on one side"):
        train_val_split(load("shapes", "train", points=16), part)


def test_with_a_validation_part_no_command_looks_at_the_test_split(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = data_spec.load

    def few(dataset: str, split: str, **given: object) -> object:
        asked.append(split)
        data = real(dataset, split, **given)
        monkeypatch.setattr(type(data), "__len__", lambda self: 200)  # a run of seconds
        return data

    monkeypatch.setattr(data_spec, "load", few)

    def made(*words: str) -> dict:
        result = CliRunner().invoke(main, [*words, "--device", "cpu", "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    form = ["--dataset", "shapes", "--points", "24", "--width", "0.25", "--epochs", "1", "--batch-size", "16"]
    card = made("train", "dgcnn", *form, "--validation", "0.2")["card"]
    assert card["accuracy"]["split"] == "validation"
    assert 30 <= card["accuracy"]["total"] <= 50
    assert "--validation 0.2" in card["recipe"]["command"]
    child = made("reprune", card["name"], "--eps", "0.5", "--method", "l1", "--images", "20")["card"]
    assert child["accuracy"]["split"] == child["parent_accuracy"]["split"] == "validation"
    assert child["parent_accuracy"]["correct"] == card["accuracy"]["correct"]
    found = made("eval", card["name"])
    assert found["accuracy"] == card["accuracy"]
    assert set(asked) == {"train"}
    assert store.info(card["name"]).accuracy.split == "validation"  # type: ignore[union-attr]
    assert made("eval", card["name"], "--validation", "0")["accuracy"]["split"] == "test"
    assert set(asked) == {"train", "test"}
