"""zoo train and zoo finetune: their entries, what a recipe may ask for, being stopped, the validation part."""

from __future__ import annotations

import json
import os
import runpy
import shlex
import signal
import sys
from pathlib import Path

import pytest
from small_zoo import SMALL, Counting, entries, made, run

import zoo
from zoo import models, store
from zoo.cli.sigterm import exit_on_sigterm
from zoo.evaluate import count, evaluate
from zoo.train import loop as train
from zoo.workflows import data_spec, save


def test_a_trained_entry_is_what_its_card_says_and_its_command_makes_it_again(home, tmp_path, monkeypatch):
    card = store.info("dgcnn-0.25x")
    model = zoo.get("dgcnn-0.25x")
    test = data_spec.load("shapes", "test", augment=False)
    found, counts = evaluate(model, test), count(model, (3, 24))
    assert (card.accuracy.correct, card.accuracy.total) == (found.correct, 60)
    assert card.cross_entropy == pytest.approx(found.cross_entropy, abs=1e-5)
    assert (card.parameters, card.macs, card.macs_paper) == (counts.parameters, counts.macs, counts.macs_paper)
    assert card.widths == models.scaled_widths("dgcnn", 0.25) == dict(model.widths)
    assert not list((home / "runs").iterdir())  # nothing is kept of a run that succeeded

    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "second"))
    words = shlex.split(card.recipe["command"])
    assert words[:3] == ["zoo", "train", "dgcnn"]
    assert made(*words[1:], "--device", "cpu")["card"] == json.loads(card.to_json())


def test_a_name_that_is_taken_says_what_to_type(home):
    words = ["train", "dgcnn", "--width", "0.25", "--epochs", "1", *SMALL, "--name", "dgcnn-0.25x.shapes"]
    before = entries(home)
    result = run(*words)
    assert result.exit_code == 2
    assert "made by `zoo train dgcnn" in result.stderr
    assert "--name" in result.stderr
    assert "--overwrite" in result.stderr
    assert entries(home) == before
    assert made(*words, "--overwrite")["card"]["recipe"]["epochs"] == 1
    assert made(*words)["card"]["recipe"]["epochs"] == 1  # the same command makes it again without a question
    assert made(*words, "--lr", "0.05", "--name", "other.shapes")["card"]["name"] == "other.shapes"
    assert zoo.list_models() == ["dgcnn-0.25x.shapes", "other.shapes"]


def test_a_chosen_name_that_is_taken_gets_a_number(home, monkeypatch):
    monkeypatch.setattr("zoo.workflows.training.train", lambda *given, **options: None)
    parent = (home / "own" / "dgcnn-0.25x.shapes.json").read_bytes()
    words = ["train", "dgcnn", "--width", "0.25", "--epochs", "1", *SMALL]
    for _ in range(2):  # the same command replaces its own
        result = run(*words)
        assert result.exit_code == 0, result.stderr
        ending = f"Saved as dgcnn-0.25x-2.shapes in {home / 'own'}.\nNext:  zoo info dgcnn-0.25x-2.shapes\n"
        assert ending in result.stdout
    assert made(*words, "--seed", "1")["card"]["name"] == "dgcnn-0.25x-3.shapes"
    tuned = [made("finetune", "dgcnn-0.25x.shapes", "--epochs", n)["card"]["name"] for n in "121"]
    assert tuned == [f"dgcnn-0.25x-finetuned{number}.shapes" for number in ("", "-2", "")]
    assert (home / "own" / "dgcnn-0.25x.shapes.json").read_bytes() == parent


def test_a_name_that_is_taken_meanwhile_costs_no_network(home, monkeypatch, caplog):
    """By an entry that is made, or installed with the package, while the command runs."""
    card = home / "own" / "mine.shapes.json"

    def slow(*given, **options):
        text = (home / "own" / "dgcnn-0.25x.shapes.json").read_text()
        card.write_text(text.replace("dgcnn-0.25x.shapes", "mine.shapes"))

    monkeypatch.setattr("zoo.workflows.training.train", slow)
    theirs = ["train", "dgcnn", "--width", "0.25", "--epochs", "1", *SMALL, "--name", "mine.shapes"]
    result = run(*theirs)
    assert result.exit_code == 0, result.stderr
    assert "mine.shapes was taken while this command ran: the network is saved as mine-2.shapes" in caplog.text
    assert f"Saved as mine-2.shapes in {home / 'own'}." in result.stdout
    made_by = str(store.info("mine-2.shapes").recipe["command"])
    assert made_by.endswith("--name mine-2.shapes")  # which makes it again
    assert "--epochs 12 " in card.read_text()
    card.unlink()

    def installed(*given, **options):
        slow()
        store.package_dir().mkdir()
        card.rename(store.package_dir() / card.name)

    monkeypatch.setattr("zoo.workflows.training.train", installed)
    assert made(*theirs, "--seed", "1")["card"]["name"] == "mine-3.shapes"


def test_finetuning_makes_a_child_beside_its_parent(home, tmp_path):
    log = tmp_path / "log.jsonl"
    found = made("finetune", "dgcnn-0.25x", "--epochs", "2", "--log", log, "--device", "cpu")["card"]
    assert found["name"] == "dgcnn-0.25x-finetuned.shapes"
    assert found["parent"] == "dgcnn-0.25x.shapes"
    assert found["parent_accuracy"]["correct"] == store.info("dgcnn-0.25x").accuracy.correct
    assert found["licences"]["parent"] == store.info("dgcnn-0.25x").licences.weights
    assert found["widths"] == store.info("dgcnn-0.25x").widths
    assert found["file"]["sha256"] != store.info("dgcnn-0.25x").saved.sha256
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2]


@pytest.mark.slow
def test_what_a_recipe_may_ask_for_is_part_of_the_command(home):
    words = ["--epochs", "1", "--average", "0.9", "--accumulate", "2", "--precision", "bfloat16", "--device", "cpu"]
    first = made("finetune", "dgcnn-0.25x", *words)["card"]
    assert "--accumulate 2 --average 0.9 --precision bfloat16" in first["recipe"]["command"]
    assert first["recipe"]["average"] == 0.9
    taught = made("finetune", first["name"], "--epochs", "1", "--distil", "0.5", "--name", "taught.shapes")["card"]
    assert "--distil 0.5" in taught["recipe"]["command"]
    again = made(*shlex.split(taught["recipe"]["command"])[1:])["card"]
    assert again["file"] == taught["file"]
    result = run("finetune", "dgcnn-0.25x", "--epochs", "1", "--distil", "0.5", "--name", "other.shapes")
    assert result.exit_code == 2
    assert "dgcnn-0.25x.shapes has no parent to learn from" in result.stderr
    result = run("reprune", "dgcnn-0.25x", "--eps", "0.1", "--finetune-distil", "0.5")
    assert "give --finetune-epochs as well" in result.stderr


def test_sigterm_saves_and_the_same_command_goes_on(home, monkeypatch):
    words = ["train", "dgcnn", "--width", "0.25", "--epochs", "2", *SMALL]
    before = entries(home)
    with monkeypatch.context() as patch:
        patch.setattr(data_spec, "load", Counting(data_spec.load, at=150))
        result = run(*words, "--name", "stopped.shapes")
    assert result.exit_code == 2
    assert "stopped in epoch 2 of 2" in result.stderr
    assert {Path(name).name for name in entries(home).keys() - before.keys()} == {"train.pt"}
    resumed = made(*words, "--name", "stopped.shapes")
    fresh = made(*words, "--name", "fresh.shapes")
    assert resumed["card"]["file"]["sha256"] == fresh["card"]["file"]["sha256"]
    assert not list((home / "runs").iterdir())


def test_a_recipe_of_ones_own_and_what_is_typed_beside_it_make_the_entry_again(home, tmp_path):
    """Also where an option sets a field of the file back to the default."""
    recipe = tmp_path / "mine.ini"
    recipe.write_text("[train]\nepochs = 1\nlr = 0.05\nbatch_size = 20\naverage = 0.9\naccumulate = 2\n")
    words = ["train", "pointnet", "--recipe", recipe, "--average", "0", "--width", "0.1", *SMALL]
    first = made(*words, "--name", "mine.shapes")["card"]
    assert (first["recipe"]["average"], first["recipe"]["accumulate"], first["recipe"]["lr"]) == (0, 2, 0.05)
    again = shlex.split(first["recipe"]["command"])[1:]
    again[again.index("mine.shapes")] = "again.shapes"
    second = made(*again, "--device", "cpu")["card"]
    assert second["file"]["sha256"] == first["file"]["sha256"]
    result = run(*words, "--recipe", tmp_path / "none.ini")
    assert result.exit_code == 2
    assert "none.ini" in result.stderr


@pytest.mark.slow
def test_weights_in_half_precision_are_the_network_that_was_measured(home):
    words = ["reprune", "dgcnn-0.25x.shapes", "--eps", "0.3", "--images", "60", "--finetune-epochs", "1", *SMALL]
    words += ["--validation", "0.2"]
    full = made(*words, "--name", "full.shapes")["card"]
    result = run(*words, "--name", "half.shapes", "--half", "--json")
    assert result.exit_code == 0, result.stderr
    half = json.loads(result.stdout)["card"]
    assert "float16 weights: all 20 decisions are the same" in result.stderr
    assert half["file"]["weights"] == "float16"
    assert "--fp16-weights" in half["recipe"]["command"]
    counted = made("eval", "half.shapes", "--device", "cpu")
    assert counted["accuracy"]["correct"] == half["accuracy"]["correct"]
    assert "float16" in run("info", "half.shapes").stdout
    weights, rounded = (zoo.get(f"{name}.shapes").state_dict() for name in ("full", "half"))
    large = sum(tensor.numel() for tensor in weights.values() if tensor.ndim > 1)
    assert full["file"]["size"] - half["file"]["size"] == pytest.approx(2 * large, abs=300)  # but for the header
    for name, tensor in weights.items():
        assert rounded[name].dtype == tensor.dtype
        wanted = tensor.half().float() if tensor.ndim > 1 else tensor
        assert rounded[name].equal(wanted), name


@pytest.mark.slow
def test_a_pruned_network_that_is_trained_on_stays_beside_the_one_it_was_pruned_from(home):
    pruned = made("reprune", "dgcnn-0.25x", "--eps", "0.3", "--method", "l1", "--images", "40", *SMALL[2:])["card"]
    words = ["--epochs", "1", "--distil", "0.5", *SMALL[2:]]
    first = made("finetune", pruned["name"], *words, "--name", "first.shapes")["card"]
    second = made("finetune", "first", *words, "--name", "second.shapes")["card"]
    dense = store.info("dgcnn-0.25x")
    for card in (first, second):  # the dense one taught both
        assert card["parent"] == dense.name
        assert card["parent_accuracy"]["correct"] == dense.accuracy.correct
        assert card["recipe"]["parent_sha256"] == dense.saved.sha256
        assert card["widths"] == pruned["widths"]
    assert (first["recipe"]["start"], second["recipe"]["start"]) == (pruned["name"], "first.shapes")
    assert "trained further from first.shapes and compared with dgcnn-0.25x.shapes" in run("info", "second").stdout
    assert run("list", "--parent", "first").stdout.count("second.shapes") == 1
    result = run("finetune", "first", "--epochs", "1", "--name", dense.name, "--overwrite", *SMALL[2:])
    assert "would be its own parent" in result.stderr
    for path in (home / "own").glob("dgcnn-0.25x.shapes*"):
        path.unlink()
    result = run("finetune", "second", *words, "--name", "third.shapes")
    assert result.exit_code == 2
    assert "the parent of second.shapes is not here to learn from: no model 'dgcnn-0.25x.shapes'" in result.stderr
    assert made("finetune", "second", "--epochs", "1", *SMALL[2:])["card"]["parent"] == "second.shapes"


def test_the_validation_part_is_counted_after_every_epoch_and_changes_nothing(home, tmp_path, monkeypatch):
    words = ["finetune", "dgcnn-0.25x", "--epochs", "2", "--average", "0.5", "--validation", "0.2", *SMALL[2:]]
    log = tmp_path / "log.jsonl"
    card = made(*words, "--log", log)["card"]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert card["accuracy"]["split"] == "validation"
    assert all(0 <= line["validation_accuracy"] <= 1 < line["validation_loss"] for line in lines)
    assert lines[0]["validation_loss"] != lines[1]["validation_loss"]
    assert lines[1]["validation_accuracy"] == card["accuracy"]["correct"] / 20
    assert lines[1]["validation_loss"] == pytest.approx(card["cross_entropy"], abs=1e-5)
    with monkeypatch.context() as patch:
        patch.setattr(train._Run, "validation_metrics", lambda run: {})
        assert made(*words, "--name", "uncounted.shapes")["card"]["file"]["sha256"] == card["file"]["sha256"]


@pytest.mark.slow
def test_a_part_that_the_network_was_trained_on_is_no_validation(home, caplog):
    run("eval", "dgcnn-0.25x", "--validation", "0.2", *SMALL[2:])
    assert "dgcnn-0.25x.shapes was trained on samples of this validation part" in caplog.text
    caplog.clear()
    run("eval", "dgcnn-0.25x", *SMALL[2:])
    words = ["--validation", "0.4", *SMALL[2:]]
    made("train", "dgcnn", "--width", "0.25", "--epochs", "1", "--points", "24", *words, "--name", "apart.shapes")
    made("reprune", "apart", "--eps", "0.3", "--method", "l1", "--images", "40", "--name", "p.shapes", *SMALL[2:])
    made("eval", "p", *SMALL[2:])  # by its card on the part
    made("eval", "p", "--validation", "0.2", *SMALL[2:])  # which lies within that
    assert not caplog.text
    whole = made("finetune", "apart", "--validation", "0", "--epochs", "1", "--name", "w.shapes", *SMALL[2:])["card"]
    assert whole["accuracy"]["split"] == "test"
    again = made(*shlex.split(whole["recipe"]["command"])[1:])["card"]  # which says so
    assert again["file"]["sha256"] == whole["file"]["sha256"]
    made("finetune", "w", "--validation", "0.2", "--epochs", "1", "--name", "f.shapes", *SMALL[2:])
    caplog.clear()
    made("eval", "f", *SMALL[2:])
    assert "w.shapes was trained on samples" in caplog.text  # where its weights come from, no parent of it
    made("reprune", "dgcnn-0.25x", "--eps", "1", "--method", "l1", "--images", "40", "--name", "q.shapes", *words)
    caplog.clear()
    made("eval", "q", *SMALL[2:])
    assert "dgcnn-0.25x.shapes was trained on samples" in caplog.text  # q's parent


def test_a_log_that_was_lost_is_written_again(home, tmp_path, monkeypatch):
    words = ["train", "dgcnn", "--width", "0.25", "--epochs", "2", *SMALL, "--name", "new.shapes"]
    handler = signal.signal(signal.SIGTERM, exit_on_sigterm)  # as the console script does
    try:
        with monkeypatch.context() as patch:
            patch.setattr(save, "measure", lambda *given, **more: os.kill(os.getpid(), signal.SIGTERM))
            result = run(*words, "--log", tmp_path / "first.jsonl")
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert result.exit_code == 143
    assert "Stopped (SIGTERM). The same command goes on from what it has saved" in result.stderr
    log = tmp_path / "second.jsonl"
    made(*words, "--log", log)  # nothing is left to train
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2]
    with monkeypatch.context() as patch:
        patch.setattr(train._Run, "bar", lambda *given: 1 / 0)
        with pytest.raises(AssertionError, match="division by zero"):
            run(*words, "--log", log)
    assert len(log.read_text().splitlines()) == 2  # the next run takes its place when it has an epoch of its own


def test_the_module_is_the_command(home, monkeypatch, capsys):
    """torchrun -m zoo.train ... starts it."""
    monkeypatch.setattr(sys, "argv", ["train.py", "dgcn"])
    monkeypatch.delitem(sys.modules, "zoo.train.__main__", raising=False)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("zoo.train.__main__", run_name="__main__")
        assert signal.getsignal(signal.SIGTERM) is exit_on_sigterm
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert ended.value.code == 2
    assert "did you mean dgcnn" in capsys.readouterr().err
