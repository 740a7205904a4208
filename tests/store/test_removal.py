"""`zoo remove`: own entries alone, after a question, with nothing of them left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from store_entries import make, visible

from zoo.cards import Accuracy
from zoo.cards.licences import Licences
from zoo.cli import main
from zoo.store import folders, publish


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    monkeypatch.setattr(folders, "PACKAGE_DIR", tmp_path / "shipped")
    monkeypatch.setattr(folders, "CLONE_MIRROR", tmp_path / "no clone")
    return tmp_path / "home"


OF_A_PARENT = Licences(code="Apache-2.0", weights="Apache-2.0", data="none", parent="Apache-2.0")


def run(*words: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, list(words), input=answer)


def test_an_own_entry_goes_after_a_yes_with_its_checkpoint(home: Path) -> None:
    for name in ("a.shapes", "b.shapes"):
        make(home / "own", name)
    before = visible(home / "own")
    for answer in ("n\n", ""):  # no, and no terminal
        kept = run("remove", "a", answer=answer)
        assert kept.exit_code == 1
        assert "Delete this entry?" in kept.stderr
        assert "a.shapes  5kB, 3 of 4 right; made by zoo train a.shapes" in kept.stderr
        assert visible(home / "own") == before
    gone = run("remove", "a", answer="y\n")
    assert (gone.exit_code, gone.stdout) == (0, "removed  a.shapes\n")
    assert visible(home / "own") == [name for name in before if name.startswith("b.")]


def test_several_go_at_once_without_a_question_and_say_so_in_json(home: Path) -> None:
    cards = [make(home / "own", name) for name in ("a.shapes", "b.shapes")]
    done = run("remove", "b.shapes", "a", "b", "--yes", "--json")
    assert done.exit_code == 0
    assert [record["name"] for record in json.loads(done.stdout)] == ["b.shapes", "a.shapes"]
    names = {Path(path).name for record in json.loads(done.stdout) for path in record["paths"]}
    assert names == {name for card in cards for name in (f"{card.name}.json", card.saved.name)}
    assert visible(home / "own") == []


def test_a_child_is_named_in_the_question(home: Path) -> None:
    make(home / "own", "a.shapes")
    make(home / "own", "a-pruned.shapes", parent="a.shapes", licences=OF_A_PARENT)
    assert "they are compared with what goes: a-pruned.shapes" in run("remove", "a", answer="n\n").stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shipped", "shipped.shapes is no entry of your own; it came with the package"),
        ("loaded", "loaded.shapes is no entry of your own; it was downloaded: type zoo cache clean loaded.shapes"),
        ("mina", "no model 'mina' in the zoo: did you mean mine?"),
    ],
)
def test_other_entries_stay(home: Path, tmp_path: Path, name: str, message: str) -> None:
    make(home / "own", "mine.shapes")
    make(home / "cache", "loaded.shapes")
    make(tmp_path / "shipped", "shipped.shapes")
    before = {folder: visible(folder) for folder in (home / "own", home / "cache", tmp_path / "shipped")}
    refused = run("remove", "mine", name, "--yes")
    assert refused.exit_code == 2
    assert refused.stderr == f"Error: {message}\n"
    assert {folder: visible(folder) for folder in before} == before


def test_an_empty_zoo_has_nothing_to_remove() -> None:
    assert run("remove", "mine").stderr == "Error: no model 'mine': you have no entries of your own\n"


def test_failed_experiments_are_published_by_their_full_name_alone(home: Path, tmp_path: Path) -> None:
    make(home / "own", "good.shapes", num_classes=10, accuracy=Accuracy.of("test", 90, 100))
    make(home / "own", "chance.shapes", num_classes=10, accuracy=Accuracy.of("test", 18, 100))
    make(home / "own", "unmeasured.shapes", num_classes=10, accuracy=None)
    parent = Accuracy.of("test", 90, 100)
    child = {"num_classes": 10, "parent": "good.shapes", "parent_accuracy": parent, "licences": OF_A_PARENT}
    make(home / "own", "small.shapes", accuracy=Accuracy.of("test", 51, 100), **child)
    make(home / "own", "broken.shapes", accuracy=Accuracy.of("test", 49, 100), **child)
    done = publish(tmp_path / "all")
    assert done.new == ["good.shapes", "small.shapes", "unmeasured.shapes"]
    assert done.left_out == {
        "broken.shapes": "49 of 100 right, its parent 90",
        "chance.shapes": "18 of 100 right, near the 10 % of guessing",
    }
    assert publish(tmp_path / "some", ["b*", "chance"]).new == ["chance.shapes"]
    printed = run("publish", str(tmp_path / "all")).stdout
    assert "left out      chance.shapes (18 of 100 right, near the 10 % of guessing)" in printed
    assert json.loads(run("publish", str(tmp_path / "all"), "--json").stdout)["left_out"].keys() == done.left_out.keys()


def test_a_shipped_entry_is_published_whatever_it_can_do(tmp_path: Path) -> None:
    make(tmp_path / "shipped", "chance.shapes", num_classes=10, accuracy=Accuracy.of("test", 10, 100))
    assert publish(tmp_path / "all").new == ["chance.shapes"]
