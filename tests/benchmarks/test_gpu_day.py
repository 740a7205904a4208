"""benchmarks/gpu_day.sh: steps that fail or hang, and a rehearsal of everything at a hundredth of its size."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from scripts import BENCHMARKS, script
from timed_cards import entries_with_weights

from zoo import datasets, store
from zoo.datasets.modelnet import MODELNET10

run = script("gpu_day.run")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it is a shell script")
SECONDS = "import time\nprint('began', flush=True)\ntime.sleep(60)"


@pytest.mark.slow
def test_a_step_that_hangs_is_stopped_and_what_it_printed_is_kept(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(run, "RESERVE", 1.0)
    ignores = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SECONDS}"
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {ignores!r}])"
    for program, code in ((SECONDS, -15), (ignores, -9), (child, -15)):
        began = time.monotonic()
        with open(tmp_path / "log.txt", "w") as log:
            assert run.run_step([sys.executable, "-c", program], 1.0, log, os.environ) == code
        assert time.monotonic() - began < 20
        assert (tmp_path / "log.txt").read_text() == "began\n"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Steps that do not run: `codes` are their exit codes, one after another."""
    state: dict[str, Any] = {"codes": {}, "ran": []}

    def run_step(command: list[str], seconds: float, log: Any, env: dict[str, str]) -> int:
        name = command[3] if command[2] == "gpu_day" else "tests"
        state["ran"].append((name, env.get("ZOO_TRITON")))
        codes = state["codes"].get(name, [])
        return codes.pop(0) if codes else 0

    monkeypatch.setattr(run, "run_step", run_step)
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # the summary imports what lies there, as from gpu_day.sh
    monkeypatch.delenv("ZOO_TRITON", raising=False)
    return state


def test_no_step_stops_the_next(steps: dict[str, Any], tmp_path: Path) -> None:
    steps["codes"] = {"kernels": [1], "networks": [-15], "forward": [run.BROKEN, run.BROKEN, 0]}
    done = CliRunner().invoke(run.main, [str(tmp_path), "--device=cpu"])
    assert done.exit_code == 1
    assert steps["ran"] == [
        ("kernels", None), *[("forward", "0")] * 3, ("networks", "0"), ("pruning", "0"), ("tests", "0"),
        ("forward", "0"),
    ]  # fmt: skip
    assert "a Triton kernel is wrong or breaks" in done.output
    summary = (tmp_path / "summary.txt").read_text()
    assert "networks: exit code -15 after 0 s\n" in summary
    assert len(list(tmp_path.iterdir())) <= 8


def test_every_step_has_time_and_all_together_end_in_nine_minutes(monkeypatch: Any, tmp_path: Path) -> None:
    now = [0.0]
    given = []

    def run_step(command: list[str], seconds: float, log: Any, env: dict[str, str]) -> int:
        given.append(seconds)
        now[0] += seconds + run.RESERVE / 2  # each is stopped
        return -15

    monkeypatch.setattr(run, "run_step", run_step)
    monkeypatch.setattr(run.time, "monotonic", lambda: now[0])
    CliRunner().invoke(run.main, [str(tmp_path), "--device=cpu"])
    assert len(given) == len(run.STEPS)
    assert min(given) > 20
    assert now[0] <= 540
    assert "no step 'x'" in CliRunner().invoke(run.main, [str(tmp_path), "--device=cpu", "--steps=x"]).output


def day(*arguments: object, home: Path) -> "subprocess.Popen[str]":
    """gpu_day.sh with these arguments."""
    here = {"PYTHON": sys.executable, "ZOO_HOME": str(home), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = ["bash", str(BENCHMARKS / "gpu_day.sh"), *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **here}
    )


@pytest.mark.slow
def test_a_rehearsal_of_every_step(tmp_path: Path) -> None:
    cards, out = tmp_path / "cards", tmp_path / "out"
    entries_with_weights(cards)
    before = {path.name: path.read_bytes() for path in cards.iterdir()}
    output, _ = day("run", out, "--scale", 0.01, "--cards", cards, home=tmp_path / "home").communicate()
    assert {path.name for path in out.iterdir()} == {
        "log.txt", "summary.txt", "kernels.jsonl", "forward.jsonl", "networks.jsonl", "pruning.jsonl",
    }  # fmt: skip
    summary = (out / "summary.txt").read_text()
    for step in run.STEPS:
        assert f"{step.name}: exit code 0 " in summary, output
    assert "search (1, 3, 32), k 4" in summary
    assert "WRONG" not in summary
    assert "OTHER" not in summary
    assert "the same widths, logits off by 0.0e+00" in summary
    assert "DGCNN training step, batch 2" in summary
    forward = [json.loads(line) for line in (out / "forward.jsonl").read_text().splitlines()]
    assert {line["mode"] for line in forward if "failed" not in line} == {"eager", "compiled"}
    assert {line["scale"] for line in forward} == {0.01}
    assert {path.name: path.read_bytes() for path in cards.iterdir()} == before


def modelnet(folder: Path, clouds: int, points: int) -> None:
    """ModelNet10 in Stanford's layout, of random clouds."""
    folder.mkdir(parents=True)
    (folder / "shape_names.txt").write_text("\n".join(MODELNET10))
    for split in ("train", "test"):
        with h5py.File(folder / f"{split}.h5", "w") as file:
            file["data"] = np.random.default_rng(0).normal(size=(clouds, points, 3)).astype(np.float32)
            file["label"] = np.arange(clouds, dtype=np.uint8)[:, None] % 10
        (folder / f"{split}_files.txt").write_text(f"{split}.h5")


def test_what_is_packed_is_the_data_in_half_precision(tmp_path: Path) -> None:
    modelnet(tmp_path / "data", 20, 64)
    pack = script("gpu_day.pack")
    done = CliRunner().invoke(pack.main, [str(tmp_path / "data"), "--carry", str(tmp_path / "carry"), "--points=64"])
    assert done.exit_code == 0, done.output
    assert "the tree: " in done.output
    for split in ("train", "test"):
        whole, packed = (
            datasets.load("modelnet10", split, data_dir=tmp_path / folder, points=64)
            for folder in ("data", "carry/modelnet10")
        )
        assert len(packed) == len(whole) == 20
        for i in range(20):
            assert packed.label(i) == whole.label(i)
            assert (packed[i][0] - whole[i][0]).abs().max() < 1e-3


@pytest.mark.slow
def test_a_training_that_is_stopped_goes_on_from_what_came_back(tmp_path: Path) -> None:
    modelnet(tmp_path / "carry" / "modelnet10", 40, 64)
    one, two = tmp_path / "one", tmp_path / "two"
    options = ["--carry", tmp_path / "carry", "--scale", 0.01, "--epochs", 2000, "--workers", 0]  # 20 epochs
    with day("train", one, *options, home=tmp_path / "home") as stopped:
        while stopped.poll() is None and not ((one / "train.jsonl").exists() and (one / "train.jsonl").read_text()):
            time.sleep(0.05)
        stopped.terminate()
        output, _ = stopped.communicate()
    assert stopped.returncode not in (0, -15), output
    assert "the same command goes on from here" in output
    (state,) = one.glob("train-*.pt")
    first = (one / "train.jsonl").read_text().splitlines()
    shutil.rmtree(tmp_path / "carry" / "home")
    shutil.move(state, tmp_path / "carry")
    with day("train", two, *options, home=tmp_path / "home") as done:
        output, _ = done.communicate()
    assert done.returncode == 0, output
    second = (two / "train.jsonl").read_text().splitlines()
    assert 0 < len(first) < len(second) == 20
    assert second[: len(first)] == first
    (card,) = (two / "entry").glob("*.json")
    assert store.read_card(card).recipe["epochs"] == 20
    assert not list(two.glob("train-*.pt"))
