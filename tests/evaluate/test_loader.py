"""Errors of a data set whose samples are read by other processes: the same sentence, and the program ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pictures import pictures

SCRIPT = """
import sys, torch
from zoo.datasets import ImageNet
from zoo.evaluate import batches

data = ImageNet(sys.argv[1], "val", size=16)
order = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
for inputs, labels in batches(data, order, device=torch.device("cpu"), workers=2):
    if sys.argv[2] == "of the network":
        raise RuntimeError(sys.argv[2])
"""


@pytest.mark.parametrize("error", ["of the data", "of the network"])
def test_an_error_with_workers_is_one_sentence_and_the_program_ends(tmp_path: Path, error: str) -> None:
    pictures(tmp_path)
    path = tmp_path / "val" / "class0" / "3.png"
    if error == "of the data":
        path.write_bytes(b"no picture")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), error]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    last = answer.stderr.strip().splitlines()[-1]
    if error == "of the data":
        assert last.startswith(f"zoo.errors.ZooError: {path} is no readable image")
        assert "DataLoader worker" not in answer.stderr
    else:
        assert last == "RuntimeError: of the network"
