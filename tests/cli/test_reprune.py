"""`zoo reprune` as a person meets it: what it prints where, Ctrl-C, and the recovery after the cut."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from small_zoo import made, run
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

import zoo
from zoo import store
from zoo.datasets.shapes import Shapes
from zoo.evaluate import evaluate
from zoo.prune import PLAIN, Budget, Options, Search, layerwise, prune
from zoo.prune.resume import ResumeFile
from zoo.workflows import data_spec, earlier_evaluation, pruning

QUICK = ["reprune", "dgcnn-0.25x", "--eps", "0.1", "--method", "l1", "--samples", "40", "--device", "cpu",
         "--groups", "edge1,edge2,conv5"]  # fmt: skip


def test_the_plan_comes_first_on_standard_error_then_a_line_a_group_and_the_ending_last(home: Path) -> None:
    result = run(*QUICK, "--recovery", "20")
    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    assert lines[0].startswith("dgcnn-0.25x.shapes: ")
    assert lines[1] == (
        "Pruning 3 groups by method l1 on 40 training clouds (30 choose neurons, 10 judge), tolerance 0.1 nats a "
        "group; widths in multiples of 8."
    )
    assert lines[2] == "Then recovery: 3 passes over 20 training samples towards the parent's outputs."
    assert lines[3].endswith(f"It will be saved in {home / 'own'}.")
    assert [line.split()[0] for line in lines if line.startswith("  ") and " > " in line] == ["edge1", "edge2", "conv5"]
    (name,) = set(zoo.list_models()) - {"dgcnn-0.25x.shapes"}
    assert re.search(r"^recovery: distillation loss of each pass (\d\.\d{4}(, )?){3}$", result.stdout, re.MULTILINE)
    assert f"\nSaved as {name} in {home / 'own'}.\nNext:  zoo info {name}\n" in result.stdout
    card = store.info(name)
    for words in ("--recovery 20", "--samples 40"):
        assert words in str(card.recipe["command"])
    for group, width in card.widths.items():  # also of a group that was pruned, at most to a multiple
        assert width == store.info("dgcnn-0.25x").widths[group] or width % (8 if group == "conv5" else 4) == 0


def test_another_eps_counts_the_parents_right_answers_no_more(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[Any] = []
    monkeypatch.setattr(earlier_evaluation, "evaluate", lambda *a, **k: evaluated.append(a) or evaluate(*a, **k))
    goal = ["--method", "l1", "--samples", "40", "--device", "cpu", "--groups", "edge1", "--no-recovery", "--json"]
    first, second = (
        json.loads(run("reprune", "dgcnn-0.25x", "--eps", eps, *goal).stdout)["card"] for eps in ("0.001", "5")
    )
    assert len(evaluated) == 1
    assert first["parent_accuracy"] == second["parent_accuracy"]
    assert second["macs"] < first["macs"]


def test_json_is_one_document_and_quiet_is_silent(home: Path) -> None:
    told = run(*QUICK, "--no-recovery", "--json")
    quiet = run(*QUICK, "--no-recovery", "--json", "--quiet")
    assert (told.exit_code, quiet.exit_code) == (0, 0), quiet.stderr
    assert "Pruning 3 groups" in told.stderr
    assert quiet.stderr == ""
    assert json.loads(told.stdout)["card"]["file"] == json.loads(quiet.stdout)["card"]["file"]


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add, choose, searched = ResumeFile.add, layerwise.choose_neurons, []

    def stop_after_two(file: ResumeFile, *given: Any) -> None:
        add(file, *given)
        if len(file.groups) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    def counted(evaluator: Any, *given: Any, **named: Any) -> Any:
        searched.append(evaluator.group.name)
        return choose(evaluator, *given, **named)

    monkeypatch.setattr(layerwise, "choose_neurons", counted)
    words = [*QUICK, "--no-recovery"]
    with monkeypatch.context() as patch:
        patch.setattr(ResumeFile, "add", stop_after_two)
        result = run(*words)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr.endswith(
        "\nStopped (Ctrl-C). What is done is kept, and the same command goes on from there.\n"
    )
    assert "Aborted" not in result.stderr
    assert zoo.list_models() == ["dgcnn-0.25x.shapes"]
    assert searched == ["edge1", "edge2"]
    resumed = made(*words)
    assert searched == ["edge1", "edge2", "conv5"]
    assert [group["name"] for group in resumed["pruning"]["groups"]] == ["edge1", "edge2", "conv5"]
    fresh = made(*words, "--no-resume", "--name", "fresh.shapes")
    assert resumed["card"]["widths"] == fresh["card"]["widths"]
    a, b = zoo.get(resumed["card"]["name"]).state_dict(), zoo.get("fresh.shapes").state_dict()
    assert all(torch.equal(a[key], b[key]) for key in b)
    assert not list((home / "runs").iterdir())


def test_recovery_learns_from_samples_that_pruning_did_not_use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caught: list[Tensor] = []
    monkeypatch.setattr(pruning, "distil", lambda pruned, parent, inputs, **options: caught.append(inputs) or [0.5])
    made(*QUICK, "--recovery", "60")
    train = data_spec.load("shapes", "train", points=24, augment=False)
    used, others = pruning.draw(train, 40, 0)[0], pruning.draw(train, 60, 0, after=40)[0]
    (inputs,) = caught
    assert torch.equal(inputs, others)
    assert not {digest(x) for x in inputs} & {digest(x) for x in used}
    every = pruning.draw(train, 100, 3)[0]
    assert {digest(x) for x in inputs} | {digest(x) for x in used} == {digest(x) for x in every}
    again = pruning.draw(train, 100, 0, after=40)[0]  # more than there are others: the used ones come last
    assert torch.equal(again, torch.cat([others, used]))

    recipe = made(*QUICK, "--preset", "paper", "--name", "paper.shapes")["card"]["recipe"]
    assert (len(caught), recipe["recovery"], recipe["holdout"], recipe["round_to"]) == (1, 0, 0.0, 1)
    again = made(*shlex.split(str(recipe["command"]))[1:], "--device", "cpu")["card"]["recipe"]
    assert again == recipe
    assert len(caught) == 1


@pytest.mark.slow
def test_recovery_brings_the_outputs_on_fresh_samples_nearer_to_the_parents(home: Path) -> None:
    parent, train = zoo.get("dgcnn-0.25x"), Shapes("train", 24, train_size=1100, test_size=100)
    inputs, labels = pruning.draw(train, 40, 0)
    pruned, _ = prune(
        parent, (inputs, labels), budget=Budget(macs=0.5), method="taylor", options=Options(Search(), PLAIN)
    )
    fresh = torch.stack([sample for sample, _ in Shapes("test", 24, train_size=1100, test_size=100)])
    before = divergence(pruned, parent, fresh)
    pruning.recover(pruned, parent, train, 40, 1024, seed=0, progress=False)
    assert divergence(pruned, parent, fresh) < 0.9 * before


@torch.no_grad()
def divergence(model: nn.Module, parent: nn.Module, inputs: Tensor) -> float:
    """Of the class probabilities, in nats a sample."""
    logs = (log_softmax(network.eval()(inputs), 1) for network in (model, parent))
    return kl_div(*logs, reduction="batchmean", log_target=True).item()


def digest(sample: Tensor) -> bytes:
    return sample.numpy().tobytes()
