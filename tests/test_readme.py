"""The README's Python runs as it stands, and prints what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n\n<!-- output -->\n```\n(.*?)```)?", TEXT, re.DOTALL)


def run(code: str, home: Path) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    environment = {**os.environ, "ZOO_HOME": str(home)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_two_examples():
    assert len(BLOCKS) == 2


@pytest.mark.parametrize("index", range(2))
def test_an_example_runs_and_prints_what_the_readme_says(index, tmp_path):
    code, output = BLOCKS[index]
    printed = run(code, tmp_path)
    if output:
        assert printed == output
    else:  # the network of one's own: a table of its one group, and the smaller layer
        assert re.search(r"conv\s+32 > \d+", printed)
        kept = int(re.search(r"32 > (\d+)", printed).group(1))
        assert kept < 32
        assert f"Conv2d(1, {kept}, " in printed


def test_the_two_commands_are_the_ones_that_are_promised():
    commands = re.findall(r"^pip install .*$", TEXT, re.MULTILINE)
    assert commands == [
        "pip install -e . && zoo reprune dgcnn.shapes --eps 0.02",
        "pip install -e '.[test]' && pytest",
    ]
