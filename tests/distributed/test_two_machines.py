"""Two launchers as on two machines, each with a zoo of its own, against the same by one process."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from distributed_runs import environment
from pictures import pictures

from zoo.cli import main

pytestmark = pytest.mark.slow

Agents = list["subprocess.Popen[str]"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return pictures(tmp_path / "images")


def machines(homes: Sequence[Path], words: Sequence[str]) -> Agents:
    """The command typed on each machine, whose ZOO_HOME is one of `homes`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(len(homes)), "--nproc-per-node", "1"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    return [
        subprocess.Popen(
            [*command, "--node-rank", str(rank), "-m", "zoo", *words], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=environment({"ZOO_HOME": str(home)}), start_new_session=True,
        )
        for rank, home in enumerate(homes)
    ]  # fmt: skip


def ended(agents: Agents) -> list[tuple[int, str, str]]:
    """(exit status, stdout, stderr) of each."""
    try:
        texts = [agent.communicate(timeout=240) for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    return [(agent.returncode, *text) for agent, text in zip(agents, texts, strict=True)]


def test_two_machines_train_resume_prune_and_evaluate_as_one_process(images: Path, tmp_path: Path) -> None:
    homes = [tmp_path / "first", tmp_path / "second"]
    words = ["train", "vgg11", "--dataset", "imagenet", "--data-dir", str(images), "--size", "32", "--width", "0.1"]
    words += ["--epochs", "2", "--batch-size", "8", "--device", "cpu", "--json"]
    alone = CliRunner().invoke(main, words, env={"ZOO_HOME": str(tmp_path / "alone")})
    expected = json.loads(alone.stdout)["card"]

    # The first is told to stop when an epoch is saved; what is saved lies on its disk alone.
    stopped = machines(homes, words)
    while not list(homes[0].glob("runs/*/train.pt")) and all(agent.poll() is None for agent in stopped):
        time.sleep(0.02)
    stopped[0].send_signal(signal.SIGTERM)
    for status, stdout, stderr in ended(stopped):
        assert status != 0
        assert stdout == ""
        assert "the same command goes on from here" in stderr
    (first, stdout, _), (second, nothing, stderr) = ended(machines(homes, words))
    assert (first, second, nothing) == (0, 0, ""), stderr
    made = json.loads(stdout)["card"]
    assert (made["accuracy"], made["recipe"]) == (expected["accuracy"], expected["recipe"])
    assert made["cross_entropy"] == pytest.approx(expected["cross_entropy"], abs=1e-4)
    assert [list(home.glob("own/*.safetensors")) != [] for home in homes] == [True, False]

    prune = ["reprune", made["name"], "--eps", "0.2", "--images", "19", "--data-dir", str(images), "--device", "cpu"]
    (_, _, first_says), (_, _, second_says) = ended(machines(homes, [*prune, "--json"]))
    assert second_says.startswith(f"Error: no model '{made['name']}' in the zoo")
    assert first_says.startswith("Error: process 0 of 2 has lost the others")
    shutil.copytree(homes[0] / "own", homes[1] / "own", dirs_exist_ok=True)
    (first, stdout, stderr), (second, nothing, _) = ended(machines(homes, [*prune, "--json"]))
    assert (first, second, nothing) == (0, 0, ""), stderr
    pruned = json.loads(stdout)["card"]
    of_one = CliRunner().invoke(main, [*prune, "--json"], env={"ZOO_HOME": str(tmp_path / "alone")})
    assert pruned["widths"] == json.loads(of_one.stdout)["card"]["widths"] != made["widths"]

    evaluate = ["eval", made["name"], "--data-dir", str(images), "--device", "cpu", "--json"]
    (_, stdout, _), (_, nothing, _) = ended(machines(homes, evaluate))
    assert json.loads(stdout)["accuracy"] == expected["accuracy"]
    assert nothing == ""
