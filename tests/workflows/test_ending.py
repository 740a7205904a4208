"""What a command says at its end: where the entry is, what to type next, and whether it is clearly worse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from store_entries import plain
from timed_cards import PARENT

from zoo import store
from zoo.cards import Accuracy, Card, File
from zoo.cli import main
from zoo.workflows import EntryResult, PruningResult

NAME = "dgcnn-pruned-0.24m.shapes"


def pruned(right: int, parent_right: int, *, total: int = 1000, classes: int = 20, **recipe: Any) -> Card:
    return plain(
        NAME, num_classes=classes, parent="dgcnn.shapes", **PARENT,
        accuracy=Accuracy.of("test", right, total), parent_accuracy=Accuracy.of("test", parent_right, total),
        recipe={"command": "zoo reprune dgcnn.shapes --eps 0.02", "images": 512, "eps": 0.02, **recipe},
        file=File(name=f"{NAME}-00000000.safetensors", size=1, sha256="0" * 64),
    )  # fmt: skip


def ending(card: Card, folder: Path | None = None) -> str:
    return PruningResult(card, None, None, folder).ending()  # type: ignore[arg-type]  # it reads the card alone


def test_it_names_the_entry_its_folder_and_commands_that_can_be_typed(empty_home: Path, tmp_path: Path) -> None:
    for folder, name in ((None, NAME), (store.user_dir(), NAME), (tmp_path / "my out", None)):
        text = ending(pruned(880, 880), folder)
        assert text.startswith(f"Saved as {NAME} in {folder or store.user_dir()}.\nNext:  zoo info ")
        commands = [shlex.split(line) for line in re.findall(r"\b(zoo [a-z].*)$", text, re.MULTILINE)]
        assert [words[1] for words in commands] == [
            "info", "bench", "predict", "export", "reprune", "reprune", "finetune",
        ]  # fmt: skip
        for words in commands:
            context = click.Context(main)
            command_name, command, rest = main.resolve_command(context, words[1:])
            assert command is not None
            command.make_context(command_name, list(rest), parent=context)
            if words[1] != "reprune":
                assert words[2] == (name or str(tmp_path / "my out" / f"{NAME}-00000000.safetensors"))
        assert commands[4][2:] == ["dgcnn.shapes", "--eps", "0.1"]  # five times the tolerance that was asked for


def test_a_trained_entry_has_an_ending_too(empty_home: Path) -> None:
    text = EntryResult(plain("dgcnn.shapes", accuracy=Accuracy.of("test", 90, 100)), None).ending()  # type: ignore[arg-type]
    assert text.splitlines()[0] == f"Saved as dgcnn.shapes in {store.user_dir()}."
    assert "reprune" not in text


def test_clearly_worse_begins_where_the_intervals_part() -> None:
    """Of 1000 the interval of 880 right begins at 0.85838; that of 836 ends at 0.85763, that of 837 at 0.85857."""
    below, above = Accuracy.of("test", 836, 1000), Accuracy.of("test", 837, 1000)
    assert below.high < Accuracy.of("test", 880, 1000).low < above.high
    worse = ending(pruned(836, 880))
    assert worse.startswith(
        "The network is clearly worse than its parent: 836 against 880 of 1000 right (-4.4 points, and the 95 % "
        "intervals are apart).\nTry a smaller --eps or a larger target, more samples (--samples 1024), a longer "
        f"recovery (--recovery 2048), or fine-tuning: zoo finetune {NAME} --epochs 5 --distil 0.5\nSaved as"
    )
    assert f"zoo finetune mine/{NAME}-00000000.safetensors --epochs" in ending(pruned(836, 880), Path("mine"))
    for right in (837, 880, 950):
        assert ending(pruned(right, 880)).startswith("Saved as")


def test_no_better_than_guessing_begins_where_the_interval_holds_the_chance() -> None:
    """With ten classes one of ten is chance; of 1000 the interval of 119 right begins at 0.10035, of 118 at 0.09943."""
    assert Accuracy.of("test", 118, 1000).low <= 0.1 < Accuracy.of("test", 119, 1000).low
    assert ending(pruned(118, 120, classes=10)).startswith("The network is no better than guessing: 118 of 1000 right.")
    assert ending(pruned(119, 120, classes=10)).startswith("Saved as")


def test_a_trained_network_is_told_when_it_guesses(empty_home: Path) -> None:
    card = plain("dgcnn.shapes", num_classes=10, accuracy=Accuracy.of("test", 100, 1000))
    text = EntryResult(card, None).ending()  # type: ignore[arg-type]
    assert text.startswith("The network is no better than guessing: 100 of 1000 right.\nSaved as")


def test_few_samples_do_not_tell_a_good_network_from_guessing(empty_home: Path) -> None:
    def begin(right: int) -> str:
        card = plain("dgcnn.shapes", num_classes=2, accuracy=Accuracy.of("test", right, 4))
        return EntryResult(card, None).ending().splitlines()[0]  # type: ignore[arg-type]

    assert begin(3).startswith("3 of 4 right do not tell the network from guessing: count more test samples")
    assert begin(2) == "The network is no better than guessing: 2 of 4 right."


@pytest.mark.parametrize("goal", [{"eps": None, "target_macs": 0.5}, {"eps": 0.02}])
def test_a_run_with_a_target_proposes_no_eps(empty_home: Path, goal: dict[str, Any]) -> None:
    assert ("--eps" in ending(pruned(880, 880, **goal))) == (goal["eps"] is not None)
