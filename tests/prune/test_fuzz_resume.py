"""The files of killed and of earlier runs, damaged: gone on with, counted as empty, or refused with one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from fuzzing import CASES, fuzz, through_file

from zoo.prune.budget.eps_search import EpsTrials
from zoo.prune.report import GroupReport
from zoo.prune.resume import CacheFile, Fingerprint, MatrixCache, ResumeFile
from zoo.workflows import earlier_evaluation

PRINT = Fingerprint("0f" * 32, (0.5, -1.5))
WORDS = [
    b"null", b"[]", b"{}", b"[[1],[2]]", b"NaN", b"-Infinity", b'""', b"true", b"[[[[[[", b"\xff", b'"widths"',
    b'"groups"', b'"values"', b'"outputs"', b'"sizes"', b"1" + b"0" * 400,
]  # fmt: skip




@pytest.mark.parametrize("cases", CASES)
def test_no_resume_file_harms(cases: int, ram: Path) -> None:
    path = ram / "resume.json"
    file = ResumeFile(path, PRINT)
    file.set_widths({"a": 2, "b": 1})
    for name in ("a", "b"):
        report = GroupReport(name, 3, 2, "local", 2, None, float("inf"), 0.5, 1.0)
        file.add(report, torch.tensor([1.0, 0.0, 2.5], dtype=torch.float64))
    samples = [path.read_bytes(), path.read_bytes().replace(b'"local": 2', b'"local": null')]

    def read(path: Path) -> None:
        found = ResumeFile(path, PRINT)
        for index, name in enumerate(("a", "b")):
            if (row := found.finished(index, name, 3)) is not None:
                assert row[1].shape == (3,)
                assert isinstance(row[0].before + row[0].after, int)
                assert isinstance(row[0].discrepancy + row[0].gap + row[0].seconds, float)
        assert found.widths is None or all(type(n) is int for n in found.widths.values())

    fuzz(through_file(path, read), samples, cases, words=WORDS)


@pytest.mark.parametrize("cases", CASES)
def test_no_search_state_harms(cases: int, ram: Path) -> None:
    path = ram / "cache.json"
    CacheFile(path, PRINT).update({"0.1": [3.0, 4.0], "0.2": [2.0, 1.0]})

    def read(path: Path) -> None:
        found = CacheFile(path, PRINT)
        trials = EpsTrials(lambda widths: float(sum(widths.values())), ["a", "b"], found)
        assert all(isinstance(cost, float) for cost in trials.cached_costs().values())

    fuzz(through_file(path, read), [path.read_bytes()], cases, words=WORDS)


@pytest.mark.parametrize("cases", CASES)
def test_no_kept_matrices_harm(cases: int, ram: Path) -> None:
    path = ram / "matrices.safetensors"
    MatrixCache(path, PRINT).store({"a": [torch.eye(2), torch.ones(3, 3)], "b": [torch.eye(1)]})
    fuzz(through_file(path, lambda path: MatrixCache(path, PRINT)), [path.read_bytes()], cases, words=WORDS)


@pytest.mark.parametrize("cases", CASES)
def test_no_earlier_evaluation_harms(cases: int, ram: Path) -> None:
    content = {
        "outputs": [0.5, -1.5], "samples": "ab", "seconds": 0.5, "cross_entropy": 0.25, "hits": [True, False, True],
        "predictions": [1, 0, 2],
    }  # fmt: skip

    def read(path: Path) -> None:
        found = earlier_evaluation._read(path, [0.5, -1.5])
        if found is not None:
            earlier_evaluation._evaluation(found)

    fuzz(through_file(ram / "known.json", read), [json.dumps(content).encode()], cases, words=WORDS)
