"""The commands that prune and measure entries: what they save can be loaded, re-counted and made again."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_zoo import SMALL, Counting, entries, made, run, without_known

import zoo
from zoo import checkpoint, models, store
from zoo.datasets.shapes import Shapes
from zoo.evaluate import count, evaluate, processor_name
from zoo.workflows import PruneSpec, RunOptions, command_line, data_spec, reprune


def test_repruning_saves_a_smaller_entry_that_its_command_makes_again(home, tmp_path, monkeypatch):
    result = run("reprune", "dgcnn-0.25x", "--eps", "0.02", "--images", "40", "--method", "l1", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    (name,) = set(zoo.list_models()) - {"dgcnn-0.25x.shapes"}
    card, parent = store.info(name), store.info("dgcnn-0.25x")
    share = float(name.removeprefix("dgcnn-pruned-").removesuffix("m.shapes"))
    model = zoo.get(name)
    counts = count(model, (3, 24))
    assert (card.parameters, card.macs, card.macs_paper) == (counts.parameters, counts.macs, counts.macs_paper)
    assert counts.macs < parent.macs
    assert share - 0.01 < counts.macs / full_macs() <= share  # of the MACs at full width, not of the narrow parent's
    assert card.parent == parent.name
    assert card.parent_accuracy == parent.accuracy
    assert (parent.licences.parent, card.licences.parent) == ("no parent", parent.licences.weights)
    assert evaluate(model, data_spec.load("shapes", "test", augment=False)).correct == card.accuracy.correct
    assert card.forward[0].device == "cpu"
    assert card.forward[0].ratio_low <= card.forward[0].ratio <= card.forward[0].ratio_high
    for text in (parent.name, name, f"{parent.accuracy.correct}/60", f"{card.accuracy.correct}/60", "linear1"):
        assert text in result.stdout

    shutil.copytree(home, tmp_path / "second")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "second"))
    for path in (tmp_path / "second" / "own").glob("dgcnn-pruned*"):
        path.unlink()
    again = made(*shlex.split(card.recipe["command"])[1:], "--device", "cpu")
    assert again["card"]["file"] == json.loads(card.to_json())["file"]
    assert again["right"]["both"] + again["right"]["only_before"] == parent.accuracy.correct
    assert again["right"]["both"] + again["right"]["only_after"] == card.accuracy.correct
    assert {g["name"]: g["after"] for g in again["pruning"]["groups"]} == card.widths


@pytest.mark.slow
def test_a_target_is_met_and_another_one_takes_over_what_was_measured(home, tmp_path, monkeypatch):
    words = ["reprune", "dgcnn-0.25x", "--images", "40", "--device", "cpu", "--leave", "conv5,linear1"]
    steps = ["--round-to", "4", "--recalibrate", "--distil-epochs", "1", "--no-exchanges"]
    first = run(*words, "--target-macs", "0.7", *steps)
    assert first.exit_code == 0, first.stderr
    assert "batch norms recalibrated" in first.stdout
    assert "reused from" not in first.stdout
    (name,) = set(zoo.list_models()) - {"dgcnn-0.25x.shapes"}
    card, parent = store.info(name), store.info("dgcnn-0.25x")
    assert 0.5 * parent.macs < card.macs <= 0.7 * parent.macs
    assert card.widths["linear1"] == parent.widths["linear1"]
    assert all(n % 4 == 0 or n == parent.widths[group] for group, n in card.widths.items())
    assert card.recipe["method"] == "repaired"
    other = "dgcnn-pruned-0.05x.shapes"
    second = run(*words, "--target-params", "0.9", *steps, "--name", other)
    assert second.exit_code == 0, second.stderr
    assert "reused from an earlier run: edge1" in second.stdout, second.stdout
    assert store.info(other).parameters <= 0.9 * parent.parameters

    shutil.copytree(home, tmp_path / "second")
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "second"))
    for path in (tmp_path / "second" / "own").glob("dgcnn-pruned*"):
        path.unlink()
    again = made(*shlex.split(card.recipe["command"])[1:], "--device", "cpu")
    assert again["card"]["file"] == json.loads(card.to_json())["file"]
    assert [step["name"] for step in again["pruning"]["steps"]] == ["pruned", "batch norms recalibrated", "distilled"]


def full_macs() -> int:
    return count(models.build("dgcnn", num_classes=20), (3, 24)).macs


@pytest.mark.slow
def test_a_run_that_could_not_save_goes_on_where_it_was(home, monkeypatch):
    words = ["reprune", "dgcnn-0.25x", "--eps", "0.02", "--images", "40", "--method", "l1", "--finetune-epochs", "2"]
    before = entries(home)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: fail(28) if in_own(number) else None)
        result = run(*words, "--device", "cpu")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No space left on device" in result.stderr
    left = without_known(entries(home))
    assert {name: left[name] for name in before} == before
    assert {Path(name).name for name in left.keys() - before.keys()} == {"prune.json", "finetune.pt"}

    fresh = made(*words, "--no-resume", "--name", "fresh.shapes", "--device", "cpu")
    for name in left:  # what that run removed when it had succeeded
        if name not in before:
            assert not (home / name).exists()
    assert fresh["card"]["recipe"]["finetune_epochs"] == 2

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda number: fail(28) if in_own(number) else None)
        run(*words, "--device", "cpu")
    samples = Counting(data_spec.load)
    monkeypatch.setattr(data_spec, "load", samples)
    resumed = made(*words, "--device", "cpu")
    assert samples.augmented == 1  # the first sample, for its shape: no epoch was run again
    assert resumed["card"]["file"]["size"] > 0
    assert resumed["card"]["accuracy"] == fresh["card"]["accuracy"]
    a, b = zoo.get(resumed["card"]["name"]).state_dict(), zoo.get("fresh.shapes").state_dict()
    assert all(torch.equal(a[key], b[key]) for key in b)


def in_own(number: int) -> bool:
    return "/own/" in os.readlink(f"/proc/self/fd/{number}")


def fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


def test_weights_of_the_authors_code_are_repruned_into_a_folder(home, tmp_path):
    ours = zoo.get("dgcnn-0.25x")
    dense = models.build("dgcnn", num_classes=20)
    theirs = {}
    for key, value in dense.state_dict().items():
        edge, _, rest = key.partition(".")
        if edge.startswith("edge"):
            part, _, leaf = rest.partition(".")
            key = f"conv{edge[-1]}.0.{leaf}" if part == "conv" else f"bn{edge[-1]}.{leaf}"
        elif edge == "conv5":
            key = f"conv5.0.{rest}"
        theirs["module." + key] = value
    torch.save(theirs, tmp_path / "authors.pt")
    authors = tmp_path / "authors.pt"
    words = ["reprune", "dgcnn", "--eps", "0.5", "--method", "l1", "--images", "20", "--weights", authors]
    before = entries(home)
    card = made(*words, "--dataset", "shapes", "--out", tmp_path / "out", *SMALL)["card"]
    assert without_known(entries(home)) == without_known(before)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [card["file"]["name"], card["name"] + ".json"]
    loaded = checkpoint.load(tmp_path / "out" / card["file"]["name"])
    assert dict(loaded.widths) == card["widths"]
    assert card["parent"] == "dgcnn.shapes"
    assert card["licences"]["parent"] == "unknown"  # a file says nothing about its terms
    assert "authors.pt" in card["recipe"]["command"]
    assert str(tmp_path) not in json.dumps(card)

    torch.save(ours.state_dict(), tmp_path / "narrow.pt")
    words[words.index(authors)] = tmp_path / "narrow.pt"
    result = run(*words, "--dataset", "shapes", *SMALL)
    assert result.exit_code == 2
    assert "conv5.weight is [1024, 128, 1] there and [1024, 512, 1] in the model" in result.stderr


def test_evaluating_again_finds_what_the_card_says(home):
    card = store.info("dgcnn-0.25x")
    found = made("eval", "dgcnn-0.25x", "--batch-size", "7", "--device", "cpu")
    assert found["accuracy"]["correct"] == card.accuracy.correct
    assert f"{card.accuracy.correct} of 60" in run("eval", "dgcnn-0.25x", "--device", "cpu").stdout


def test_timing_gives_ratios_for_cards_and_the_milliseconds_of_this_run_on_a_cpu(home, caplog):
    made("finetune", "dgcnn-0.25x", "--epochs", "1", "--device", "cpu")
    words = ["bench", "dgcnn-0.25x-finetuned", "--batch", "2", "--repeats", "3", "--device", "cpu"]
    times = made(*words)
    assert list(times["times"]) == ["dgcnn-0.25x.shapes", "dgcnn-0.25x-finetuned.shapes"]  # its parent first
    assert times["against"] == "dgcnn-0.25x.shapes"
    assert times["times"]["dgcnn-0.25x.shapes"]["ratio"] == 1
    assert all(each["median_ms"] is None for each in times["times"].values())
    here = times["milliseconds_here"]
    assert here.keys() == times["times"].keys()
    assert all(0 < each["p5"] <= each["median"] <= each["p95"] for each in here.values())
    head, titles, parent, child, note = run(*words).stdout.splitlines()
    assert head.startswith(f"{processor_name(torch.device('cpu'))}, torch {torch.__version__}, batch 2, float32, eager")
    assert titles.split("  ")[-1].strip() == "speed-up against dgcnn-0.25x.shapes"
    assert re.fullmatch(r"dgcnn-0\.25x\.shapes +[\d.]+ ms +[\d.]+ to [\d.]+ ms +[\d.]+k?", parent)
    assert re.search(r" [\d.]+ ms .* [\d.]+x \([\d.]+ to [\d.]+\)$", child)
    assert note == "Milliseconds of this machine in this run: they stand on no card."
    card = home / "own" / "dgcnn-0.25x-finetuned.shapes.json"
    text = card.read_text()
    card.write_text(text.replace(json.loads(text)["recipe"]["parent_sha256"], "0" * 64))
    assert list(made(*words)["times"]) == ["dgcnn-0.25x-finetuned.shapes"]
    assert "without its parent dgcnn-0.25x.shapes: it was made anew since" in caplog.text
    for path in (home / "own").glob("dgcnn-0.25x.shapes*"):
        path.unlink()
    alone = run(*words)
    assert "is timed alone, without its parent dgcnn-0.25x.shapes: no model" in caplog.text
    assert "speed-up" not in alone.stdout  # over itself it would be 1
    assert re.search(r"^dgcnn-0\.25x-finetuned\.shapes +[\d.]+ ms +[\d.]+ to [\d.]+ ms +\d", alone.stdout, re.MULTILINE)


COMMANDS = {
    "eval": (),
    "bench": ("--batch", "2", "--repeats", "3"),
    "finetune": ("--epochs", "1"),
    "reprune": ("--eps", "0.02", "--images", "40", "--method", "l1"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_entry_that_only_a_mirror_has_is_fetched(home, tmp_path, monkeypatch, command):
    card = store.info("dgcnn-0.25x")
    assert run("publish", str(tmp_path / "mirror"), card.name).exit_code == 0
    for path in (home / "own").glob(f"{card.name}*"):
        path.unlink()
    alone = run(command, card.name, *COMMANDS[command], "--device", "cpu")
    assert alone.exit_code == 2
    assert f"no model {card.name!r}" in alone.stderr
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    made(command, card.name, *COMMANDS[command], "--device", "cpu")
    assert store.verified_path(card) == home / "cache" / card.saved.name


def test_a_shipped_entry_is_made_again_in_a_folder_of_its_own(home, tmp_path):
    again = ["finetune", "dgcnn-0.25x", "--epochs", "1", "--device", "cpu", "--name", "tuned.shapes"]
    card = made(*again)["card"]
    store.package_dir().mkdir()
    for path in store.user_dir().glob("tuned.shapes*"):
        path.rename(store.package_dir() / path.name)
    refused = run(*again)
    assert refused.exit_code == 2
    assert "is shipped: give yours another one with --name, or write it to a folder of its own" in refused.stderr
    assert "--output-dir DIR" in refused.stderr
    assert made(*again, "--out", tmp_path / "again")["card"]["file"] == card["file"]


WRONG = {
    "an unknown entry": (["reprune", "dgcn-0.25x", "--eps", "0.02"], "did you mean dgcnn-0.25x"),
    "an unknown network": (["train", "dgcn"], "did you mean dgcnn"),
    "an unknown data set": (["train", "dgcnn", "--dataset", "shape"], "did you mean shapes"),
    "a missing folder": (["train", "dgcnn", "--dataset", "modelnet40", "--data-dir", "{}/none"], "{}/none"),
    "a folder of another layout": (["train", "resnet34", "--dataset", "imagenet", "--data-dir", "{}"], "train"),
    "no goal": (["reprune", "dgcnn-0.25x"], "say how far to prune: --eps 0.02"),
    "two goals": (["reprune", "dgcnn-0.25x", "--eps", "0.1", "--target-macs", "0.5"], "--eps and a target were given"),
    "two targets": (["reprune", "dgcnn-0.25x", "--target-ms", "1", "--target-macs", "0.5"], "give one target"),
    "a target of 0": (["reprune", "dgcnn-0.25x", "--target-macs", "0"], "above 0"),
    "a least width without a target": (
        ["reprune", "dgcnn-0.25x", "--eps", "0.1", "--min-width", "8"],
        "--min-width goes with a target",
    ),
    "an unknown direction": (
        ["reprune", "dgcnn-0.25x", "--eps", "0.1", "--method", "repaired", "--direction", "forwards"],
        "did you mean forward",
    ),
    "an unknown weighting": (["reprune", "dgcnn-0.25x", "--eps", "1", "--weighting", "fischer"], "did you mean fisher"),
    "a group to leave that is none": (["reprune", "dgcnn-0.25x", "--eps", "1", "--leave", "edge9"], "no neuron group"),
    "widths for a method that goes by eps": (
        ["reprune", "dgcnn-0.25x", "--target-macs", "0.5", "--method", "combined", "--min-width", "8"],
        "leave --min-width at 1",
    ),
    "eps below 0": (["reprune", "dgcnn-0.25x", "--eps", "-0.1"], "got -0.1"),
    "eps NaN": (["reprune", "dgcnn-0.25x", "--eps", "nan"], "got nan"),
    "eps a word": (["reprune", "dgcnn-0.25x", "--eps", "small"], "not a valid float"),
    "an unknown method": (["reprune", "dgcnn-0.25x", "--eps", "0.1", "--method", "globl"], "did you mean global"),
    "fewer points than k": (["reprune", "dgcnn-0.25x", "--eps", "0.1", "--points", "19"], "19 points"),
    "fewer points than k to train": (["train", "dgcnn", "--points", "5", "--name", "new"], "5 points"),
    "no GPU": (["eval", "dgcnn-0.25x", "--device", "cuda:77"], "cuda:77"),
    "no device": (["train", "dgcnn", "--device", "toaster"], "toaster"),
    "more samples than there are": (["reprune", "dgcnn-0.25x", "--eps", "0.1", "--images", "101"], "has 100"),
    "other classes": (["eval", "dgcnn-0.25x", "--dataset", "modelnet10", "--data-dir", "{}/off"], "10"),
    "weights without a data set": (["reprune", "dgcnn", "--eps", "0.1", "--weights", "{}/w.pt"], "--dataset"),
    "weights that are not there": (
        ["reprune", "dgcnn", "--eps", "0.1", "--dataset", "shapes", "--weights", "{}/w.pt"],
        "no file {}/w.pt",
    ),
    "clouds for a network of images": (["train", "resnet34", *SMALL], "resnet34 takes images, shapes holds"),
    "a log that cannot be": (["finetune", "dgcnn-0.25x", "--epochs", "1", "--log", "/proc/none/log"], "/proc/none"),
    "no epochs": (["train", "dgcnn", "--epochs", "0"], "0 epochs"),
    "a name that is none": (["train", "dgcnn", "--name", "../mine"], "not a model name"),
    "the parent's own name": (["reprune", "dgcnn-0.25x", "--eps", "0.1", "--name", "dgcnn-0.25x.shapes"], "--name"),
    "the parent's own name, to be replaced": (
        ["reprune", "dgcnn-0.25x", "--eps", "0.1", "--name", "dgcnn-0.25x.shapes", "--overwrite"],
        "would be its own parent",
    ),
    "a seed that no generator takes": (["train", "dgcnn", "--seed", "9" * 20], "9007199254740991"),
    "a seed below 0": (["reprune", "dgcnn-0.25x", "--eps", "0.1", "--seed", "-1"], "-1 is not in the range"),
    "memory without end": (["reprune", "dgcnn-0.25x", "--eps", "0.1", "--memory", "inf"], "--memory is inf"),
    "memory NaN": (["reprune", "dgcnn-0.25x", "--eps", "0.1", "--memory", "nan"], "--memory is nan"),
    "a folder that cannot be": (["train", "dgcnn", "--epochs", "1", "--out", "/proc/none"], "/proc/none"),
    "the same to fine-tune": (["finetune", "dgcnn-0.25x", "--epochs", "1", "--out", "/proc/none"], "/proc/none"),
    "the same to prune": (["reprune", "dgcnn-0.25x", "--eps", "0.1", "--out", "/proc/none"], "/proc/none"),
    "a folder without a name": (["train", "dgcnn", "--epochs", "1", "--out", ""], "write . for the folder"),
    "a part that is none": (["eval", "dgcnn-0.25x", "--validation", "2"], "2"),
    "an unknown dtype": (["bench", "dgcnn-0.25x", "--dtype", "float31"], "did you mean float"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_a_sentence_and_nothing_is_written(case, home, tmp_path):
    words, message = WRONG[case]
    before = entries(home)
    result = run(*(word.format(tmp_path) for word in words))
    assert result.exit_code == 2
    assert result.stdout == ""
    error = result.stderr.splitlines()[-1]
    assert error.startswith("Error: ")
    assert message.format(tmp_path) in error
    assert entries(home) == before
    assert "epoch 1/" not in result.stderr  # it is said before what takes long


@pytest.mark.parametrize("seed", ["20000000000000", str(2**53 - 1)])
def test_any_seed_that_a_card_can_state_trains_and_prunes(home, seed):
    made("train", "dgcnn", "--epochs", "1", "--width", "0.25", "--seed", seed, "--name", "big", *SMALL)
    words = ["reprune", "big", "--eps", "100", "--method", "l1", "--images", "8", "--name", "less", *SMALL]
    assert made(*words, "--seed", seed)["card"]["recipe"]["seed"] == int(seed)


def test_a_seed_that_is_none_is_refused_from_python_too():
    for seed in (-1, 2**53, 0.5, True):
        with pytest.raises(zoo.ZooError, match="the seed is"):
            reprune("dgcnn-0.25x", PruneSpec(eps=0.1, seed=seed))


def test_a_tilde_behind_an_equals_sign_is_the_home_folder(home, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.chdir(tmp_path)
    made("train", "dgcnn", "--epochs", "1", "--width", "0.25", "--out=~/out", "--name", "mine", *SMALL)
    assert (tmp_path / "me" / "out" / "mine.json").exists()
    assert not (tmp_path / "~").exists()


def test_nan_in_the_data_is_an_error_that_names_the_sample(home, monkeypatch):
    def load(name: str, split: str, **options):
        dataset = Shapes(split, 24, train_size=100, test_size=60)
        dataset.load_sample(13)[0, 0]
        dataset._clouds[13][1, 5] = float("nan")
        return dataset

    monkeypatch.setattr(data_spec, "load", load)
    for words in (["eval", "dgcnn-0.25x"], ["train", "dgcnn", "--name", "new"]):
        result = run(*words, "--device", "cpu")
        assert result.exit_code == 2
        assert "sample 13 of the data holds NaN" in result.stderr


def test_the_command_as_a_process(home):
    words = [sys.executable, "-m", "zoo", "eval", "dgcnn-0.3x"]
    result = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (2, "")
    # This process sees the shipped entries as well, so more names may be near.
    assert re.fullmatch(r"Error: no model 'dgcnn-0.3x' in the zoo: did you mean .*dgcnn-0\.25x.*\?\n", result.stderr)


@pytest.mark.slow
def test_the_settings_of_the_search_are_part_of_the_command(home):
    words = ["--groups", "conv5,linear1", "--refresh", "0.3", "--no-settle", "--images", "20", "--name", "mine.shapes",
             "--look-precision", "bfloat16", "--method", "combined"]  # fmt: skip
    card = made("reprune", "dgcnn-0.25x", "--eps", "0.5", *words, *SMALL[2:])["card"]
    settings = "-O search.gradient_reuse=0.3 -O search.refine=false -O search.eval_dtype=bfloat16"
    for said in (settings, "--groups conv5,linear1"):
        assert said in card["recipe"]["command"]
    before = store.info("dgcnn-0.25x").widths
    changed = {name for name, width in card["widths"].items() if width != before[name]}
    assert changed
    assert changed <= {"conv5", "linear1"}


def test_command_lines():
    options = {"lr": 1e-05, "mean": (0.5, 0.25), "name": None, "a_b": True, "c": False}
    assert command_line("train", "dgcnn", options) == "zoo train dgcnn --lr 1e-05 --mean 0.5 0.25 --a-b"


@pytest.mark.slow
def test_the_library_takes_what_the_command_takes(home):
    spec = PruneSpec(eps=0.02, method="local", samples=20)
    result = reprune("dgcnn-0.25x", spec, run=RunOptions(device="cpu", name="mine.shapes"))
    assert result.card == store.info("mine.shapes")
    command = str(result.card.recipe["command"])
    assert command.endswith("--samples 20 --recovery 100 --finetune-epochs 0 --seed 0 --name mine.shapes")
