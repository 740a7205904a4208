"""Progress where standard error is a file: lines, also while one step is long, and none where none are wanted."""

from __future__ import annotations

import re
import sys
import time

import pytest

from zoo.utils import progress, progress_bar


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is due every 0.05 seconds; pytest's standard error is no terminal."""
    monkeypatch.setattr(progress, "SECONDS", 0.05)


def test_a_long_step_is_told_again_and_nothing_comes_after_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    bar = progress_bar(title="prune", total=3)
    bar.update(1)
    bar.set_postfix_str("edge2")
    time.sleep(0.8)  # one step
    text = capsys.readouterr().err
    lines = text.splitlines()
    assert 4 <= len(lines) <= 17  # on a busy machine fewer than 16
    assert all(re.fullmatch(r"prune 1/3, edge2, 00:0\d gone, 00:\d\d left", line) for line in lines)
    assert "\r" not in text
    bar.write("a group is done", file=sys.stderr)
    assert "\na group is done\n" in f"\n{capsys.readouterr().err}"
    bar.close()
    time.sleep(0.1)
    capsys.readouterr()
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_items_are_passed_on_and_a_bar_that_is_dropped_ends_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress_bar(range(5), "evaluate")) == [0, 1, 2, 3, 4]
    for _ in progress_bar(range(5), "stopped"):
        break
    time.sleep(0.1)
    capsys.readouterr()
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shown", [True, False])
def test_what_is_quick_or_not_shown_prints_nothing(capsys: pytest.CaptureFixture[str], shown: bool) -> None:
    for _ in progress_bar(range(3), "quick", show=shown):
        time.sleep(0 if shown else 0.1)
    assert capsys.readouterr() == ("", "")


def test_a_process_without_standard_error_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert list(progress_bar([1, 2])) == [1, 2]
