"""Several processes at work on one entry, and some of them killed: always one whole entry, and nothing else is left.

`pytest -m slow` does 500 rounds with two processes and with five.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).resolve().parents[1] / "support"
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="the race forks")


def race(folder: Path, processes: int, rounds: int, size: int, timeout: float) -> dict[str, float]:
    command = [sys.executable, SUPPORT / "entry_race.py", folder, processes, rounds, size]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-6000:]
    counts: dict[str, float] = json.loads(done.stdout)
    print(json.dumps(counts))
    assert counts["rounds"] == rounds
    return counts


@forks
def test_two_processes_write_remove_and_publish_one_entry_and_are_killed(tmp_path: Path) -> None:
    counts = race(tmp_path, 2, 20, 100_000, 120)
    assert counts["killed"] > 0
    assert min(counts[what] for what in ("replace", "remove", "publish", "download --to", "install")) > 0


@forks
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_entry(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SUPPORT / "entry_kills.py", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-6000:]
    print(done.stdout)
    counts = json.loads(done.stdout)
    assert counts.keys() == {"write", "replace", "remove", "download", "install", "clean", "publish"}
    assert min(counts.values()) >= 10


@forks
@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 5])
def test_five_hundred_rounds(tmp_path: Path, processes: int) -> None:
    counts = race(tmp_path, processes, 500, 1_000_000, 3600)
    assert counts["killed"] > 100
    assert counts["rounds that left something to clear"] > 0
