"""benchmarks/table3.py on made-up cards: which entries share a row, and nothing in it that no card states."""

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scripts import BENCHMARKS, script
from small_zoo import load
from store_entries import make, write_index

import zoo
from zoo import store
from zoo.cards import Accuracy, Forward, wilson_interval
from zoo.cards.licences import Licences
from zoo.workflows import save_entry

table3 = script("table3")
OF_PARENT = Licences(code="Apache-2.0", weights="Apache-2.0", data="none", parent="Apache-2.0")


def entry(folder: Path, name: str, right: int | None = None, **changes: Any) -> None:
    """A card of ModelNet10 with so many right answers of 908."""
    arch = name.partition("-")[0].partition(".")[0]
    usual: dict[str, Any] = {
        "arch": arch, "dataset": "modelnet10", "num_classes": 10, "sample_shape": (3, 512), "options": {}, "widths": {},
        "accuracy": None if right is None else Accuracy.of("test", right, 908),
        "recipe": {"command": f"zoo train {arch}", "epochs": 10},
    }  # fmt: skip
    if "-pruned" in name:
        usual |= {"parent": "dgcnn.modelnet10", "licences": OF_PARENT}
        usual["recipe"] = {"command": "zoo reprune dgcnn.modelnet10", "finetune_epochs": 3}
    make(folder, name, name.encode(), **{**usual, **changes})


def times(device: str, **numbers: float) -> Forward:
    return Forward(**{"device": device, "torch": "2", "batch": 32, "dtype": "float32", "mode": "eager", **numbers})


def lines(folder: Path, *options: str) -> list[str]:
    done = CliRunner().invoke(table3.main, ["--cards", str(folder), *options])
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def cells(folder: Path, title: str, *options: str) -> dict[str, str]:
    """The named row's filled cells, by the title of their column."""
    printed = lines(folder, *options)
    head, line = printed[0], next(line for line in printed if line.startswith(f"{title}  "))
    starts = [head.index(column) for column in table3.HEAD]
    found = {c: line[a:b].strip() for c, a, b in zip(table3.HEAD, starts, [*starts[1:], None], strict=True)}
    return {column: text for column, text in found.items() if text}


def test_rows_stand_in_the_papers_order_and_others_are_left_out(tmp_path: Path) -> None:
    for name in (
        "dgcnn-pruned-0.25x", "dgcnn", "dgcnn-0.25x", "pointnet2", "dgcnn-0.5x", "dgcnn-pruned-0.5x", "pointnet",
        "dgcnn-0.75x", "dgcnn-pruned-0.75x", "dgcnn-finetuned", "dgcnn-0.5x-seed2", "dgcnn-pruned-0.25x-repaired-seed1",
        "dgcnn-0.25x-repaired",
    ):  # fmt: skip
        entry(tmp_path, f"{name}.modelnet10", 800)
    entry(tmp_path, "dgcnn-0.4x.shapes", 800, dataset="shapes")
    write_index(tmp_path)
    printed = lines(tmp_path)
    assert [line.partition("  ")[0] for line in printed[1 : printed.index("")]] == [
        "PointNet", "PointNet++", "DGCNN (1x)", "DGCNN (0.75x)", "DGCNN, pruned (0.75x)", "DGCNN (0.5x)",
        "DGCNN, pruned (0.5x)", "DGCNN (0.25x)", "DGCNN, pruned (0.25x)", "DGCNN, repaired (0.25x)",
    ]  # fmt: skip


def test_clouds_of_another_number_of_points_have_a_row_of_their_own(tmp_path: Path) -> None:
    for seed, points in enumerate((512, 1024, 512)):
        entry(tmp_path, f"dgcnn-0.5x-seed{seed}.modelnet10", 800 + seed, sample_shape=(3, points))
    entry(tmp_path, "dgcnn-pruned-0.5x-repaired.modelnet10", 806, sample_shape=(3, 1024))
    write_index(tmp_path)
    row = {line.split()[-2]: line.split()[2:4] for line in lines(tmp_path)[1:3]}
    assert row == {"512": ["2", "1602/1816"], "1024": ["1", "801/908"]}
    said = "0.5x, 1024 points: the repaired network has +0.55 points of accuracy against the dense one"
    assert lines(tmp_path)[-1] == said
    printed = json.loads("\n".join(lines(tmp_path, "--json")))
    assert [(row["kind"], row["points"]) for row in printed] == [("dense", 512), ("dense", 1024), ("repaired", 1024)]


def test_seeds_share_a_row_with_their_mean_spread_and_interval(tmp_path: Path) -> None:
    for seed, right, parameters in ((0, 820, 1_000_000), (1, 826, 1_100_000), (2, 835, 1_050_000)):
        name = "dgcnn-pruned-0.5x" + (f"-seed{seed}" if seed else "")
        entry(tmp_path, f"{name}.modelnet10", right, parameters=parameters, macs=300_000_000)
    low, high = 0.89048, 0.927644  # of 827 right answers of 908, not of 2481 of 2724
    assert (low, high) == wilson_interval(827, 908)
    assert cells(tmp_path, "DGCNN, pruned (0.5x)") == {
        "network": "DGCNN, pruned (0.5x)",
        "seeds": "3",
        "right": "2481/2724",
        "accuracy": "91.08 (90.31 to 91.96)",
        "95 %": f"{100 * low:.1f} to {100 * high:.1f}",
        "params": "1M to 1.1M",
        "MACs": "300M",
        "points": "512",
        "epochs": "3",
    }
    found = json.loads("\n".join(lines(tmp_path, "--json")))[0]
    assert found["accuracies"] == [820 / 908, 826 / 908, 835 / 908]
    assert found["accuracy"] == pytest.approx(2481 / 2724)
    assert found["interval"] == [low, high]


def test_seeds_may_lie_in_several_folders(tmp_path: Path) -> None:
    for seed, right in enumerate((820, 826)):
        entry(tmp_path / str(seed), f"dgcnn-0.5x-seed{seed}.modelnet10", right)
    assert cells(tmp_path / "0", "DGCNN (0.5x)", "--cards", str(tmp_path / "1"))["right"] == "1646/1816"


def test_more_seeds_do_not_make_the_interval_smaller(tmp_path: Path) -> None:
    """The same test samples were answered for: with three equal seeds nothing else is known about other samples."""
    widths = []
    for seed in range(3):
        entry(tmp_path, f"dgcnn-seed{seed}.modelnet10", 800)
        low, high = json.loads("\n".join(lines(tmp_path, "--json")))[0]["interval"]
        widths.append(high - low)
    assert widths == [widths[0]] * 3
    entry(tmp_path, "dgcnn-seed1.modelnet10", 801)  # the mean is no whole number of right answers
    low, high = json.loads("\n".join(lines(tmp_path, "--json")))[0]["interval"]
    assert low == pytest.approx((2 * wilson_interval(800, 908)[0] + wilson_interval(801, 908)[0]) / 3, abs=1e-5)
    assert high == pytest.approx((2 * wilson_interval(800, 908)[1] + wilson_interval(801, 908)[1]) / 3, abs=1e-5)


def test_seeds_that_were_judged_on_different_samples_have_no_interval(tmp_path: Path) -> None:
    entry(tmp_path, "dgcnn.modelnet10", 800)
    entry(tmp_path, "dgcnn-seed1.modelnet10", accuracy=Accuracy.of("validation", 350, 399))
    assert "95 %" not in cells(tmp_path, "DGCNN (1x)")
    assert json.loads("\n".join(lines(tmp_path, "--json")))[0]["interval"] is None


def test_what_no_card_states_is_empty(tmp_path: Path) -> None:
    entry(tmp_path, "pointnet.modelnet10", recipe={"command": "made by hand"})
    assert cells(tmp_path, "PointNet") == {"network": "PointNet", "seeds": "1", "params": "89", "points": "512"}
    found = json.loads("\n".join(lines(tmp_path, "--json")))[0]
    assert (found["accuracy"], found["interval"], found["macs"], found["forward"]) == (None, None, [None], [None])


def test_times_of_a_gpu_come_before_the_ratio_of_a_cpu(tmp_path: Path) -> None:
    name, title = "dgcnn-pruned-0.5x.modelnet10", "DGCNN, pruned (0.5x)"
    cpu = times("cpu", batch=8, ratio=1.9)
    entry(tmp_path, name, forward=(times("cuda: X", mode="compiled", median_ms=0.1), cpu))
    found = cells(tmp_path, title)
    assert (found.get("forward"), found["speed-up"]) == (None, "1.90x (cpu, batch 8)")
    gpu = (times("cuda: X", median_ms=3.0, ratio=1.7), times("cuda: X", batch=1, median_ms=0.5, ratio=1.1))
    entry(tmp_path, name, forward=(cpu, *gpu))
    found = cells(tmp_path, title)
    assert (found["forward"], found["speed-up"]) == ("3.000 ms (cuda, batch 32)", "1.70x (cuda, batch 32)")
    found = cells(tmp_path, title, "--batch", "1")
    assert (found["forward"], found["speed-up"]) == ("0.500 ms (cuda, batch 1)", "1.10x (cuda, batch 1)")
    entry(tmp_path, "dgcnn-pruned-0.5x-seed1.modelnet10", forward=(times("cpu", batch=8, ratio=2.1),))
    assert {"forward", "speed-up"}.isdisjoint(cells(tmp_path, title))  # a GPU's and a CPU's have nothing in common


def test_other_splits_are_named(tmp_path: Path) -> None:
    entry(tmp_path, "dgcnn.modelnet10", accuracy=Accuracy.of("validation", 350, 399))
    assert cells(tmp_path, "DGCNN (1x)")["right"] == "350/399 (validation)"


def test_the_pruned_are_held_against_the_dense_of_their_cost(tmp_path: Path) -> None:
    entry(tmp_path, "dgcnn-0.5x.modelnet10", 800, macs=400)
    entry(tmp_path, "dgcnn-0.25x.modelnet10", 790, macs=200)
    entry(tmp_path, "dgcnn-pruned-0.5x.modelnet10", 820, macs=399)
    entry(tmp_path, "dgcnn-pruned-0.25x.modelnet10", 780, macs=201)
    assert lines(tmp_path)[-2:] == [
        "0.5x: the pruned network has +2.20 points of accuracy against the dense one",
        "0.25x: the pruned network has -1.10 points of accuracy against the dense one, "
        "and costs more (201 against 200 MACs)",
    ]


def test_a_zoo_without_such_entries(tmp_path: Path) -> None:
    entry(tmp_path, "dgcnn.modelnet10", 800)
    done = CliRunner().invoke(table3.main, ["--cards", str(tmp_path), "--dataset", "modelnet40"])
    assert done.exit_code == 1
    assert "no entry of modelnet40 belongs to the table" in done.output


# -- sample by sample ----------------------------------------------------------------------------------------


@pytest.fixture
def beside_one(home: Path) -> dict[str, list[int]]:
    """Two seeds of a pruned network and a dense one, in the zoo of `home`; which of 60 samples each has right."""
    card, test = zoo.info("dgcnn-0.25x"), load("shapes", "test", points=24, augment=False)
    found = {}
    for name in ("dgcnn-0.25x.shapes", "dgcnn-pruned-0.25x.shapes", "dgcnn-pruned-0.25x-seed1.shapes"):
        model = zoo.get("dgcnn-0.25x")
        with torch.no_grad():
            if name != card.name:  # another network that is right now and then
                noise = torch.randn(model.linear3.weight.shape, generator=torch.manual_seed(len(found)))
                model.linear3.weight += 0.1 * noise
            found[name] = [int(model(x[None]).argmax() == y) for x, y in (test[i] for i in range(60))]
        if name != card.name:
            counted = Accuracy.of("test", sum(found[name]), 60)
            child = {"parent": card.name, "licences": OF_PARENT, "accuracy": counted, "file": None}
            save_entry(model, replace(card, name=name, **child))
    return found


def test_paired_the_networks_answer_for_the_same_samples(beside_one: dict[str, list[int]]) -> None:
    """The mean over the seeds against the dense network, by an explicit sum over the samples and four halves."""
    dense, first, second = beside_one.values()
    differences = [(a + b) / 2 - c for a, b, c in zip(first, second, dense, strict=True)]
    shrunk = sum(differences) / 62
    more = [(0 - shrunk) ** 2, (1 - shrunk) ** 2, (-1 - shrunk) ** 2, (0 - shrunk) ** 2]
    deviation = math.sqrt((sum((d - shrunk) ** 2 for d in differences) + sum(more) / 2) / 62)
    wanted = f"{100 * sum(differences) / 60:+.2f} ± {195.9964 * deviation / math.sqrt(62):.2f} points"
    last = lines(store.user_dir(), "--dataset", "shapes", "--paired")[-1]
    assert last == f"0.25x: the pruned network has {wanted} of accuracy against the dense one"


def refused(*options: str) -> str:
    done = CliRunner().invoke(table3.main, ["--dataset", "shapes", "--paired", *options])
    assert done.exit_code != 0, done.output
    return done.output


def test_paired_are_only_the_networks_of_the_table(beside_one: dict[str, list[int]], tmp_path: Path) -> None:
    shutil.copytree(store.user_dir(), tmp_path / "own")
    assert "--json does not print" in refused("--json")
    place = store.user_dir() / "dgcnn-pruned-0.25x.shapes.json"
    card = store.read_card(place)
    right = card.accuracy.correct
    place.write_text(replace(card, accuracy=Accuracy.of("test", right + 3, 60)).to_json(), encoding="utf-8")
    assert f"{card.name} has {right} of 60 right, and its card says {right + 3} of 60" in refused()
    place.write_text(replace(card, accuracy=Accuracy.of("validation", right, 60)).to_json(), encoding="utf-8")
    alone = lines(store.user_dir(), "--dataset", "shapes", "--paired")  # its row is of two splits
    assert not any("pruned network has" in line for line in alone)
    model = zoo.get("dgcnn-0.25x")
    save_entry(model, replace(card, file=None), overwrite=True)
    next((tmp_path / "own").glob("dgcnn-pruned-0.25x.shapes-*.safetensors")).unlink()
    assert "dgcnn-pruned-0.25x.shapes" in refused("--cards", str(tmp_path / "own"))


# -- the stored answers --------------------------------------------------------------------------------------

answers = script("answers")
FOLDERS = (BENCHMARKS.parent / "zoo" / "checkpoints", BENCHMARKS.parent / "mirror", BENCHMARKS / "seeds")


@pytest.mark.parametrize("total", [1, 7, 8, 908])
def test_answers_are_stored_as_bits(total: int, tmp_path: Path) -> None:
    correct = np.random.default_rng(total).random(total) < 0.8
    answers.write({"a": ("0" * 64, correct), "b": ("1" * 64, ~correct)}, tmp_path / "answers.json")
    stored = answers.read(tmp_path / "answers.json")
    assert np.array_equal(stored["0" * 64], correct)
    assert np.array_equal(stored["1" * 64], ~correct)
    lines = (tmp_path / "answers.json").read_text().splitlines()
    assert len(lines) == 4
    assert f'"correct": {int(correct.sum())}, "total": {total}' in lines[1]


def test_every_modelnet10_entry_of_this_clone_has_its_answers_stored() -> None:
    stored = answers.read(answers.FILE)
    cards = [card for card in table3.entries(FOLDERS)[0].values() if card.dataset == "modelnet10"]
    assert {card.saved.sha256 for card in cards} == set(stored)
    for card in cards:
        correct = stored[card.saved.sha256]
        assert (int(correct.sum()), len(correct)) == (card.accuracy.correct, card.accuracy.total), card.name


def test_the_paired_table_of_this_clone_needs_neither_weights_nor_data(empty_home: Path) -> None:
    folders = [word for folder in FOLDERS[1:] for word in ("--cards", str(folder))]
    printed = lines(FOLDERS[0], *folders, "--paired", "--data-dir", str(empty_home))
    said = printed[printed.index("") + 1 :]
    assert len(said) == 4
    assert all(re.search(r"has [+-]0\.\d\d ± 0\.\d\d points", line) for line in said)


def test_answers_that_are_not_stored_are_evaluated_and_then_are(
    beside_one: dict[str, list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "FILE", tmp_path / "answers.json")
    monkeypatch.setattr(answers, "DATASET", "shapes")
    for _ in range(2):  # the second time there is nothing to evaluate
        done = CliRunner().invoke(answers.main, ["--cards", str(store.user_dir())])
        assert done.exit_code == 0, done.output
        stored = answers.read(tmp_path / "answers.json")
        for name, correct in beside_one.items():
            assert stored[zoo.info(name).saved.sha256].tolist() == [bool(answer) for answer in correct]
        for path in store.user_dir().glob("*.safetensors"):
            path.unlink()
