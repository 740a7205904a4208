"""`--mirror` wherever an entry is named, and what an unknown name is answered where a known mirror has it."""

from __future__ import annotations

import shlex
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from store_entries import make, write_index

import zoo
from zoo import store
from zoo.cli import main
from zoo.cli.app import LAZY
from zoo.cli.params import entry_names
from zoo.store import folders

LOCAL = {"publish", "clean"}  # of entries that are on this machine


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    monkeypatch.setattr(folders, "PACKAGE_DIR", tmp_path / "shipped")
    monkeypatch.setattr(folders, "CLONE_MIRROR", tmp_path / "clone" / "mirror")
    make(tmp_path / "shipped", "here.shapes")
    return tmp_path


def mirror(folder: Path, *names: str) -> Path:
    for name in names:
        make(folder, name)
    write_index(folder)
    return folder


def commands() -> dict[str, click.Command]:
    found = dict(main.commands)
    for name, (place, _) in LAZY.items():
        module, _, attribute = place.partition(":")
        found[name] = getattr(import_module(module), attribute)
    groups = [command for command in found.values() if isinstance(command, click.Group)]
    return found | {name: command for group in groups for name, command in group.commands.items() if name != "list"}


def test_every_command_that_takes_an_entry_takes_a_mirror() -> None:
    taking = {
        name
        for name, command in commands().items()
        if any(getattr(param, "_custom_shell_complete", None) is entry_names for param in command.params)
    }
    assert {"info", "download", "bundle", "eval", "bench", "export", "finetune", "reprune", "predict"} <= taking
    lacking = [
        name for name in taking - LOCAL if not any("--mirror" in param.opts for param in commands()[name].params)
    ]
    assert lacking == []


WORDS = {
    "info": "info NAME",
    "download": "download NAME",
    "eval": "eval NAME",
    "bench": "bench here.shapes NAME",
    "finetune": "finetune NAME",
    "reprune": "reprune NAME --eps 0.1",
    "export": "export NAME --format onnx",
    "bundle": "bundle NAME -o x.zip",
}


@pytest.mark.parametrize("command", WORDS)
def test_a_name_that_the_mirror_of_the_clone_has_is_answered_with_what_to_type(
    home: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror(home / "clone" / "mirror", "away.shapes")
    monkeypatch.chdir(home / "clone")
    refused = CliRunner().invoke(main, WORDS[command].replace("NAME", "away").split())
    assert refused.exit_code == 2
    assert refused.stderr == (
        "Error: no model 'away' on this machine, but the mirror mirror has away.shapes: "
        "type zoo download away.shapes --mirror mirror\n"
    )


def test_what_is_to_be_typed_gets_the_entry_from_anywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror(home / "clone" / "mirror", "away.shapes")
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    with pytest.raises(zoo.ZooError, match="no model 'away' on this machine") as refused:
        zoo.get("away")
    words = shlex.split(str(refused.value).partition("type ")[2])
    done = CliRunner().invoke(main, words[1:])
    assert done.exit_code == 0, done.stderr
    assert store.info("away").name == "away.shapes"


def test_a_card_without_its_checkpoint_is_answered_with_how_to_make_it(home: Path) -> None:
    folder = mirror(home / "clone" / "mirror", "large.shapes")
    for checkpoint in folder.glob("*.safetensors"):
        checkpoint.unlink()
    with pytest.raises(zoo.ZooError, match=r"mirror has its card alone: to make it again type zoo train large\.shapes"):
        zoo.info("large.shapes")


def test_a_mirror_of_the_environment_is_known_and_one_on_a_network_is_not_asked(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror(home / "of mine", "away.shapes")
    monkeypatch.setenv("ZOO_MIRROR", f"http://127.0.0.1:9/none,{home / 'of mine'}")
    with pytest.raises(zoo.ZooError, match=r"the mirror .*of mine has away\.shapes: type zoo download"):
        zoo.info("away")


def test_an_unknown_name_is_answered_as_before(home: Path) -> None:
    mirror(home / "clone" / "mirror", "away.shapes")
    with pytest.raises(zoo.ZooError, match=r"no model 'hera' in the zoo: did you mean here\?"):
        zoo.info("hera")
    assert store.find("here").name == "here.shapes"
    assert store.find("away", mirror=str(home / "clone" / "mirror")).name == "away.shapes"
