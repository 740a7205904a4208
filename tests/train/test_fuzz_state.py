"""The file of a killed training run, damaged: gone on with, or refused with one sentence."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from fuzzing import CASES, fuzz, measured_peak, through_file
from torch import nn
from torch.utils.data import TensorDataset

from zoo.errors import ZooError
from zoo.train import Recipe
from zoo.train.loop import _Run
from zoo.train.state import TrainState

WORDS = [b"(", b")", b"}", b"R", b".", b"K\x01", b"\x00" * 8]  # operations of pickle
RECIPE = Recipe(epochs=3, lr=0.1, batch_size=4, average=0.5)


def run() -> _Run:
    dataset = TensorDataset(torch.zeros(8, 2), torch.zeros(8, dtype=torch.int64))
    return _Run(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), dataset, RECIPE, 0, 0, None, None)


@pytest.mark.parametrize("cases", CASES)
def test_no_saved_run_harms(cases: int, ram: Path) -> None:
    saved = run()
    saved.step(torch.randn(4, 2), torch.tensor([0, 1, 2, 0]), saved.parts([0, 1, 2, 3]), 0.1)
    history = [{"epoch": 1, "loss": 1.0}]
    saved.state = TrainState(epoch=1, step=1, loss=2.0, correct=1, seen=4, seconds=0.5, history=history)
    saved.save(ram / "run.pt")
    sample = (ram / "run.pt").read_bytes()
    resumed = run()

    def read(path: Path) -> None:
        resumed.load(path)
        assert resumed.state.epoch <= RECIPE.epochs

    with torch.random.fork_rng(devices=[]):
        fuzz(through_file(ram / "run.pt", read), [sample], cases, words=WORDS)


def test_a_saved_run_that_swells_is_refused(tmp_path: Path) -> None:
    run().save(tmp_path / "run.pt")
    with zipfile.ZipFile(tmp_path / "run.pt") as saved, zipfile.ZipFile(tmp_path / "small.pt", "w", 8) as packed:
        for member in saved.namelist():
            packed.writestr(member, bytes(64 << 20) if member.endswith("data/0") else saved.read(member))
    with measured_peak() as grown, pytest.raises(ZooError, match=r"cannot be read as a saved run .*compressed"):
        run().load(tmp_path / "small.pt")
    assert grown[0] < 32 << 20
