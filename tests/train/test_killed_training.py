"""A training run that is killed or stopped goes on: kill -9 while an image network (in the channels-last format) or a
DGCNN (averaged) is trained, and the same command ends with the weights, bit for bit, of a run that nobody killed.
tests/test_train.py has an MLP."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from distributed_runs import environment
from torch import nn
from torch.utils.data import TensorDataset
from training_runs import CLASSES, RECIPE, resnet, samples

from zoo import models

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="the signal is POSIX's")]

SIZE = 21  # batches of 8, 8 and 5


def dgcnn() -> nn.Module:
    """With dropout: the random state counts."""
    widths = {"edge1": 6, "edge2": 6, "edge3": 7, "edge4": 8, "conv5": 12, "linear1": 10, "linear2": 8}
    return models.build("dgcnn", num_classes=CLASSES, widths=widths, k=4)


RUNS = {
    "images": (resnet, (3, 32, 32), replace(RECIPE, epochs=2, lr=0.05)),
    "clouds": (dgcnn, (3, 16), replace(RECIPE, epochs=2, average=0.8)),
}


def network(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return RUNS[name][0]()


def data(name: str) -> TensorDataset:
    inputs, labels = samples(SIZE, *RUNS[name][1]).tensors
    return TensorDataset(inputs.float(), labels)


SCRIPT = """
import os, signal, sys
sys.path[:0] = [{tests!r}, {tests!r} + "/../support"]
from pathlib import Path
import torch
torch.set_num_threads(1)
from test_killed_training import RUNS, SIZE, data, network
from training_runs import Read
from zoo.train import loop as module

module.SAVE_SECONDS = 0.0  # save after every step
name, when, path = sys.argv[1], sys.argv[2], Path(sys.argv[3])
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
at = {{1 + SIZE + 12: die}} if when == "reading" else {{}}  # in the second batch of the second epoch
if when == "saving":
    rename, saves = os.replace, []
    def replace(*names):
        saves.append(names)
        if len(saves) == 6:
            die()
        rename(*names)
    os.replace = replace
reader, model, last = Read(data(name), at), network(name, seed=when == "never"), set()  # other first weights: lost
model.register_forward_pre_hook(lambda model, given: last.add(given[0].stride(1) == 1))
module.train(model, reader, RUNS[name][2], seed=3, checkpoint=path)
whole = module.train(network(name), data(name), RUNS[name][2], seed=3)
pairs = zip(model.state_dict().values(), whole.state_dict().values(), strict=True)
print(reader.read, last, all(torch.equal(a, b) for a, b in pairs))
"""


def run(name: str, when: str, path: Path) -> "subprocess.CompletedProcess[str]":
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", script, name, when, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment())


@pytest.mark.parametrize(("name", "when"), [("images", "reading"), ("clouds", "saving")])
def test_kill_9_ends_with_the_same_weights(name: str, when: str, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    killed = run(name, when, path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    state = torch.load(path, weights_only=True)["state"]
    # After the first batch of the second epoch; or while the sixth save, of the second epoch's end, is renamed.
    assert (state["epoch"], state["step"]) == {"reading": (1, 1), "saving": (1, 2)}[when]
    finished = run(name, "never", path)
    read = 1 + SIZE - {"reading": 8, "saving": 16}[when]  # one for its shape, and what was not done yet
    assert finished.stdout == f"{read} { {name == 'images'} } True\n", finished.stderr


def test_sigterm_to_a_whole_group_of_processes_saves_too(tmp_path: Path) -> None:
    """As torchrun and service managers send it: to the processes that load data as well."""
    words = ["train", "pointnet", "--points", "24", "--width", "0.1", "--epochs", "500", "--workers", "2"]
    words += ["--batch-size", "4"]
    with subprocess.Popen(
        [sys.executable, "-m", "zoo", *words, "--device", "cpu"], env={**os.environ, "ZOO_HOME": str(tmp_path)},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert any("epoch 1/500" in line for line in process.stderr)
        time.sleep(1)  # in the midst of the next, when they are at work
        os.killpg(process.pid, signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 2, rest
    assert "stopped in epoch" in rest
    assert "Traceback" not in rest
    assert list(tmp_path.glob("runs/*/train.pt"))
