"""The shell completion that click offers, as a shell asks for it: a process with its words in the environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from store_entries import make

from zoo import store


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    for name in ("net.shapes", "net-pruned-0.5x.shapes", "other.modelnet10"):
        make(store.user_dir(), name, dataset=name.rpartition(".")[2])
    return empty_home


def completed(*words: str) -> list[str]:
    """What bash would offer for the last word."""
    asked = {"_ZOO_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(("zoo", *words)), "COMP_CWORD": str(len(words))}
    code = "import sys; sys.argv[0] = 'zoo'; from zoo.cli.app import main; main(prog_name='zoo')"
    result = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


def test_commands() -> None:
    assert completed("re") == ["remove", "reprune"]
    assert {"bundle", "bench"} == set(completed("b"))


def test_names_of_entries() -> None:
    assert completed("info", "net") == ["net", "net-pruned-0.5x", "net-pruned-0.5x.shapes", "net.shapes"]
    assert completed("download", "other.") == ["other.modelnet10"]
    assert "other" in completed("bundle", "net", "o")
    for command in ("reprune", "finetune", "eval", "bench", "export"):
        assert "net" in completed(command, "ne"), command


def test_options_also_of_the_commands_that_are_imported_late() -> None:
    assert completed("reprune", "net", "--ep") == ["--eps"]
    assert completed("cache", "cl") == ["clean"]
    assert "--min-acc" in completed("list", "--min")


def test_the_script_for_the_shell() -> None:
    code = "from zoo.cli.app import main; main(prog_name='zoo')"
    env = {**os.environ, "_ZOO_COMPLETE": "zsh_source"}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "compdef _zoo_completion zoo" in result.stdout


def test_a_broken_card_is_no_reason_to_disturb_somebody_who_types() -> None:
    (store.user_dir() / "net.shapes.json").write_text("{")
    assert completed("info", "ne") == ["net-pruned-0.5x", "net-pruned-0.5x.shapes"]
