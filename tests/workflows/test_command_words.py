"""Commands as text: from the settings on a card and back, with the options of every version."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from zoo.cli import main
from zoo.cli import reprune as reprune_command
from zoo.cli import train as train_command
from zoo.prune import PAPER, PLAIN, Options, Repair, Search
from zoo.utils import settings_of
from zoo.workflows import Finetune, PruneSpec, command_line, translate_old_options
from zoo.workflows.command_words import same_command, settings_on_card

ROOT = Path(__file__).parents[2]
CARDS = sorted(
    path
    for folder in ("zoo/checkpoints", "mirror", "benchmarks/seeds")
    for path in (ROOT / folder).glob("*.json")
    if path.name != "index.json"
)


def parsed(command: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the library function gets when this command is typed."""
    caught: dict[str, Any] = {}

    def catch(target: Any, data: Any = None, **arguments: Any) -> None:
        caught.update(arguments, target=target, data=data)

    def catch_reprune(target: Any, spec: PruneSpec, **arguments: Any) -> None:
        caught.update(vars(spec), **arguments, spec=spec, target=target)

    monkeypatch.setattr("zoo.workflows.training.train_entry", catch)
    monkeypatch.setattr("zoo.workflows.pruning.reprune", catch_reprune)
    for check in ("check_train", "check_reprune"):  # most entries and data sets are not here
        monkeypatch.setattr(f"zoo.workflows.checks.{check}", lambda *given, **named: None)
    for module in (train_command, reprune_command):
        monkeypatch.setattr(module, "print_result", lambda *given: None)
    words = shlex.split(command)[1:]
    {"train": train_command.train, "reprune": reprune_command.reprune}[words[0]].main(words[1:], standalone_mode=False)
    return caught


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_the_command_on_a_shipped_card_still_means_its_recipe(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = json.loads(path.read_text())
    recipe = card["recipe"]
    settings = parsed(recipe["command"], monkeypatch)
    data, run = settings["data"], settings["run"]
    typed = {key: getattr(data, key) for key in ("dataset", "points", "size") if getattr(data, key)}
    typed |= {"seed": settings["seed"], "half": run.fp16_weights}
    if "width" in settings:
        typed |= {**settings["changes"], "width": settings["width"]}
        expected = {"width": 1.0, **recipe}
        assert settings["target"] == card["arch"]
    else:
        goal = settings["spec"].goal_on_card()
        typed |= {"method": settings["method"], "images": settings["samples"], **goal}
        typed |= {"finetune_epochs": settings["finetune"].epochs, "distil": settings["finetune"].distil}
        typed |= {"groups": ",".join(settings["groups"]) if settings["groups"] else None}
        assert (recipe["recovery"], recipe["round_to"]) == (settings["finetune"].recovery, 1)
        # What was pruned to a tolerance, a given one or one that meets the target, held no samples out.
        assert recipe.get("holdout") == (None if "eps" not in recipe else 0.0)
        search = Search(round_to=1, **({} if "eps" not in recipe else {"holdout": 0.0}))
        repair = Repair() if recipe["method"] == "repaired" else PLAIN
        assert settings["options"] == Options(search=search, repair=repair)
        expected = recipe
        assert settings["target"] == card["parent"]
    typed = {key: value for key, value in typed.items() if value}
    assert typed == {key: expected[key] for key in typed}
    assert run.name in (None, card["name"])
    assert data.validation is None


def test_old_options_are_todays() -> None:
    old = "zoo reprune dgcnn --images 9 --leave a,b --half --target-ms=3 --no-settle --slack 0.1 --weighting output"
    assert shlex.join(translate_old_options(shlex.split(old))) == (
        "zoo reprune dgcnn --samples 9 --exclude a,b --fp16-weights --target-latency=3 -O search.refine=false "
        "-O search.eps_tolerance=0.1 -O repair.weighting=fisher"
    )


def test_a_command_is_the_same_in_another_order_and_with_old_options() -> None:
    command = "zoo reprune dgcnn --samples 9 -O search.refine=false --mean 0.1 -0.2 0.3 --seed 5"
    assert same_command(command, "zoo reprune dgcnn --images 9 --mean 0.1 -0.2 0.3 --seed 5 --no-settle")
    for other in ("--samples 9", "reprune dgcnn", "0.1 -0.2", "--seed 5"):
        assert not same_command(command, command.replace(other, "--seed 9" if other == "--samples 9" else "0"))


OLD = [
    "--method combined --exact-until 3 --candidates 4 --refresh 0.1 --no-settle --slack 0.2 --positions 0.3 "
    "--look-precision bfloat16",
    "--method repaired --direction forward --no-exchanges --discrimination 0.5",
    "--method combined --repair --weighting output --discrimination 0.5 --recalibrate --distil-epochs 3",
    "--method combined --weighting output --settle --exchanges",
]


@pytest.mark.parametrize("options", OLD)
def test_old_options_of_the_search_and_the_repair_stand_on_cards_as_they_did(
    options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = parsed(f"zoo reprune dgcnn --eps 1 {options}", monkeypatch)
    default = Options(repair=Repair() if settings["method"] == "repaired" else PLAIN)
    stated = settings_on_card(settings_of(settings["options"]), settings_of(default))
    names = {word[2:].replace("-", "_") for word in options.split() if word.startswith("--")} - {"method"}
    assert set(stated) == names - {"settle", "exchanges"}  # those two are the defaults
    again = parsed(command_line("reprune", "dgcnn", {"eps": 1, "method": settings["method"], **stated}), monkeypatch)
    assert again["options"] == settings["options"]


def test_command_lines() -> None:
    options = {"lr": 1e-05, "mean": (0.5, 0.25), "name": None, "a_b": True, "c": False, "slack": 0.5}
    words = "zoo train dgcnn --lr 1e-05 --mean 0.5 0.25 --a-b -O search.eps_tolerance=0.5"
    assert command_line("train", "dgcnn", options) == words


def test_presets_and_settings_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = parsed("zoo reprune dgcnn --eps 1 --preset paper -O search.refine=yes -O batch_size=8", monkeypatch)
    search = Search(exhaustive_below=25, gradient_reuse=0.0, holdout=0.0, round_to=1)
    assert settings["options"] == Options(search=search, repair=PLAIN, batch_size=8)
    assert settings["method"] == "combined"
    more = parsed("zoo reprune dgcnn --eps 1 --preset paper --round-to 8 -O search.holdout=0.5", monkeypatch)
    assert more["options"].search == replace(PAPER, round_to=8, holdout=0.5)
    assert (settings["finetune"].recovery, more["finetune"].recovery) == (0, 0)


def test_the_defaults_of_reprune(monkeypatch: pytest.MonkeyPatch) -> None:
    for goal in ("--eps 1", "--target-macs 0.5", "--target-params 0.5"):
        settings = parsed(f"zoo reprune dgcnn {goal}", monkeypatch)
        assert settings["method"] == "repaired"
        assert settings["options"] == Options(search=Search(holdout=0.25, round_to=None), repair=Repair())
        assert (settings["samples"], settings["finetune"]) == (None, Finetune(0, 0.0, None))
    for words, recovery in (("--recovery 300", 300), ("--no-recovery", 0), ("--recovery 0", 0)):
        assert parsed(f"zoo reprune dgcnn --eps 1 {words}", monkeypatch)["finetune"].recovery == recovery


def test_the_recovery_is_512_samples_and_none_with_the_papers_search_or_before_fine_tuning() -> None:
    assert Finetune().recovery_samples(Search(), 5000) == 512
    assert Finetune().recovery_samples(Search(), 100) == 100  # of those that there are
    assert Finetune().recovery_samples(PAPER, 5000) == 0
    assert Finetune(epochs=1).recovery_samples(Search(), 5000) == 0
    assert Finetune(epochs=1, recovery=2000).recovery_samples(PAPER, 5000) == 2000  # who asks for it gets it
    assert Finetune(recovery=0).recovery_samples(Search(), 5000) == 0


@pytest.mark.parametrize("command", ["reprune", "train", "finetune"])
def test_help_lists_options_under_headings_and_no_old_ones(command: str) -> None:
    text = CliRunner().invoke(main, [command, "--help"]).stdout
    first = {"reprune": ["Goal, one of", "Method", "Recovery"]}.get(command, ["Recipe"])
    assert re.findall(r"^(\w.*):$", text, re.MULTILINE) == [*first, "Data", "Output", "Advanced"]
    assert len(re.findall(r"^  -", text, re.MULTILINE)) <= (30 if command == "reprune" else 36)
    for option in ("-q, --quiet", "--seed", "--output-dir"):
        assert f"\n  {option}" in text
    old = {"--images", "--leave", "--half", "--slack", "--out", "--target-ms", "--holdout", "--min-width"}
    assert not old & set(re.findall(r"--[a-z-]+", text))


def test_options_that_the_help_does_not_list_work(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "--points 64 --size 9 --log x.jsonl --round-to 4 --repair --finetune-epochs 2 --finetune-distil 0.5"
    text = CliRunner().invoke(main, ["reprune", "--help"]).stdout
    assert not {word for word in words.split() if word.startswith("--") and f"{word} " in text} - {"--finetune-epochs"}
    settings = parsed(f"zoo reprune dgcnn --eps 1 --method local {words}", monkeypatch)
    assert (settings["data"].points, settings["data"].size, settings["run"].log) == (64, 9, Path("x.jsonl"))
    assert settings["options"] == Options(search=Search(round_to=4), repair=replace(PLAIN, update_weights=True))
    assert settings["finetune"] == Finetune(2, 0.5)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["x", "--eps", "0.1", "-O", "search.none=1"],
        ["x", "--eps", "0.1", "--preset", "quick"],
        ["x", "--samples", "many"],
        ["x"],
        ["x", "--eps", "0.1", "--round-to", "0"],
        ["x", "--eps", "0.1", "--min-width", "8"],
        ["x", "--eps", "0.1", "--recovery", "-1"],
    ],
)
def test_wrong_words_are_refused_before_torch_is_imported(words: list[str]) -> None:
    code = "import sys\nfrom zoo.cli import main\n"
    code += f"try:\n    main(['reprune', *{words!r}])\n"
    code += "except SystemExit as ended:\n    print(ended.code, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == f"{0 if words == ['--help'] else 2} False", result.stderr
