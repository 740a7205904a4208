"""README and docs/: the Python in them runs and prints what they say, every command can be typed, every link works."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from zoo.cli import main

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
EXAMPLE = re.compile(r"```python\n(.*?)```(?:\n\n<!-- output -->\n```\n(.*?)```)?", re.DOTALL)
EXAMPLES = [
    pytest.param(code, output, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (code, output) in enumerate(EXAMPLE.findall(page.read_text(encoding="utf-8")))
    if code.startswith("import ")  # others are pieces of a file, which CONTRIBUTING.md names
]
# A line of a block, up to the explanation that stands two spaces behind it.
COMMAND = re.compile(r"^ {0,4}(?:ZOO_\w+=\S+ )?(zoo [a-z].*?)(?: {2,}.*)?$", re.MULTILINE)


def commands(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```\w*\n(.*?)```", text, re.DOTALL))
    indented = "\n".join(re.findall(r"^ {4}\S.*$", text, re.MULTILINE))
    return [line.replace("...", "").strip() for line in COMMAND.findall(f"{blocks}\n{indented}")]


def check_words(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """Parse words as the command would, without running it."""
    if isinstance(command, click.Group):
        context = click.Context(command, parent=parent, info_name="zoo")
        _, chosen, rest = command.resolve_command(context, words)
        assert chosen is not None
        check_words(chosen, rest, context)
    else:
        command.make_context(command.name, words, parent=parent)


@pytest.mark.parametrize(("code", "output"), EXAMPLES)
def test_an_example_runs_and_prints_what_the_page_says(code: str, output: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", code]
    environment = {**os.environ, "ZOO_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    if output:
        assert done.stdout == output


def test_the_example_of_an_own_network_prunes_it(tmp_path: Path) -> None:
    code, _ = EXAMPLE.findall((ROOT / "docs" / "own-network.md").read_text(encoding="utf-8"))[0]
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    kept = int(re.search(r"conv\s+32 > (\d+)", printed)[1])  # type: ignore[index]
    assert kept < 32
    assert f"Conv2d(1, {kept}, " in printed


@pytest.mark.slow
def test_the_way_of_own_data_can_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "own-data.md"
    code, _ = EXAMPLE.findall(page.read_text(encoding="utf-8"))[0]
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    printed = []
    for line in commands(page):
        if "NETWORK" not in line:
            done = CliRunner().invoke(main, shlex.split(line)[1:])
            assert done.exit_code == 0, f"{line}: {done.output}"
            printed.append(done.stdout)
    _, info, pruned, counted, predicted, as_json, *_, red_and_blue = printed
    assert "classes: board, post\n" in info
    assert "toys-small" in pruned
    assert " of 4 on the test split of the folder toys" in counted
    assert [line.split()[0] for line in predicted.splitlines()] == ["toys/board/board1.off", "toys/post/scan.xyz"]
    assert json.loads(as_json)["files"][0]["classes"][0]["name"] in ("board", "post")
    assert [set(line.split()[1::3]) for line in red_and_blue.splitlines()] == [{"blue", "red"}] * 2


@pytest.mark.slow
def test_the_plug_in_of_contributing_is_trained_and_pruned_by_its_names(tmp_path: Path) -> None:
    pieces = EXAMPLE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    (tmp_path / "tiny_plugin.py").write_text("\n".join(code for code, _ in pieces))
    environment = {**os.environ, "ZOO_HOME": str(tmp_path), "ZOO_PLUGINS": "tiny_plugin", "PYTHONPATH": str(tmp_path)}
    for line in (
        "train tinynet --dataset tinyset --epochs 2 --batch-size 16 --device cpu",
        "reprune tinynet.tinyset --target-params 0.5 --method largest-weight --samples 32 --device cpu",
    ):
        command = [sys.executable, "-m", "zoo", *line.split()]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "own").glob("tinynet-pruned-*.tinyset.json"))) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_can_be_typed(page: Path) -> None:
    refused = []
    for line in commands(page):
        try:
            check_words(main, shlex.split(line, comments=True)[1:])
        except click.UsageError as error:
            refused.append(f"{line}: {error.format_message()}")
    assert refused == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_readme_is_short_and_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert re.findall(r"^pip install .*$", text, re.MULTILINE) == [
        "pip install -e . && zoo reprune dgcnn.shapes --eps 0.02",
        "pip install -e '.[test]' && pytest",
    ]
