"""Training and evaluation by several real processes, against the same by one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from distributed_runs import SUPPORT, environment, launcher, run_distributed, torchrun
from pictures import pictures
from torch.nn import functional as F
from training_runs import RUNS, Read, dropping, result, samples, seeded

from zoo import ZooError
from zoo.cli import main
from zoo.distributed import sync_batch_norm
from zoo.train import train
from zoo.workflows import choose_device

TRAIN = ["train", "vgg11", "--dataset", "imagenet", "--size", "32", "--width", "0.1", "--batch-size", "8"]
TRAIN += ["--device", "cpu", "--json"]

SAME = """
import os, signal
from training_runs import RUNS, Read, dropping, result, samples, seeded
from zoo.evaluate import evaluate
from zoo.train import train

results = {name: result(name, folder) for name in RUNS}

# A run that one process began goes on in several.
build, data, recipe = RUNS["odd"]
results["from one"] = train(seeded(build, 9), data, recipe, seed=3, checkpoint=STATE).state_dict()

# A signal that one process gets stops all at the same step, and they go on from there.
at = {10: lambda: distributed.rank() == 1 and os.kill(os.getpid(), signal.SIGTERM)}
reader = Read(data, at)
try:
    train(seeded(build), reader, recipe, seed=3, checkpoint=folder / "signal.pt")
except ZooError as error:
    results["stopped"] = (str(error), reader.read)
results["signal"] = train(seeded(build, 9), data, recipe, seed=3, checkpoint=folder / "signal.pt").state_dict()

# Every process has a dropout mask of its own.
masks, model = [], seeded(dropping)
model[3].register_forward_hook(lambda module, inputs, output: masks.append(output == 0))
train(model, samples(24 * distributed.world_size(), 5), recipe, seed=3)
results["mask"] = masks[0][:2]

# NaN in the samples of the last process is an error in all.
x, y = data.tensors
x = x.clone()
x[-1] = torch.nan
try:
    evaluate(seeded(build), (x, y))
except ZooError as error:
    results["nan"] = str(error)
torch.save(results, folder / f"{distributed.rank()}.pt")
"""

DIFFERENT = """
import os
from zoo.workflows import DataSpec, RunOptions, evaluate_entry
os.environ["ZOO_HOME"] = HOMES[min(distributed.rank(), 1)]
try:
    evaluate_entry("vgg11-0.1x.imagenet", data=DataSpec(data_dir=IMAGES), run=RunOptions(device="cpu"))
except ZooError as error:
    (folder / f"{distributed.rank()}").write_text(str(error))
"""

by_processes = pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow)], scope="module")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def homes(images: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two zoos whose entry vgg11-0.1x.imagenet has other weights, trained by a single process."""
    folder = tmp_path_factory.mktemp("homes")
    for home, options in (("0", ["--epochs", "2"]), ("1", ["--epochs", "1", "--seed", "1"])):
        words = [*TRAIN, *options, "--data-dir", str(images)]
        done = CliRunner().invoke(main, words, env={"ZOO_HOME": str(folder / home)})
        assert done.exit_code == 0, done.output
    return [str(folder / "0"), str(folder / "1")]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The resume file of a run that one process began."""
    path = tmp_path_factory.mktemp("state") / "begun.pt"
    build, data, recipe = RUNS["odd"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.train.loop.SAVE_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train(seeded(build), Read(data, {40: interrupt}), recipe, seed=3, checkpoint=path)
    return path


@pytest.fixture(scope="module")
def results(n: int, state: Path, homes: list[str], images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of all texts by n distributed."""
    folder = tmp_path_factory.mktemp(f"by{n}")
    begun = shutil.copy(state, folder / "begun.pt")  # the run goes on in it
    bodies = {"same": SAME, "different": DIFFERENT}
    done = run_distributed(n, bodies, folder, STATE=begun, HOMES=homes, IMAGES=str(images))
    assert done.stdout == ""
    return folder


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {name: result(name, tmp_path_factory.mktemp("single")) for name in RUNS}


def assert_weights(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@by_processes
def test_several_processes_train_and_evaluate_as_one(n: int, results: Path, single: dict[str, Any]) -> None:
    each = [torch.load(results / "same" / f"{rank}.pt", weights_only=True) for rank in range(n)]
    for name in RUNS:
        for actual in (every[name] for every in each):
            assert_weights(actual["weights"], single[name]["weights"])
            assert all(actual["weights"][key].equal(value) for key, value in each[0][name]["weights"].items())
            assert actual["counts"] == single[name]["counts"]
            for key in ("hits", "predictions"):
                assert all(map(torch.equal, actual[key], single[name][key]))
            assert actual["entropy"] == pytest.approx(single[name]["entropy"], rel=1e-6)
            assert actual["history"] == [pytest.approx(line, rel=1e-9) for line in single[name]["history"]]
        if RUNS[name][2].accumulate == 1 and "pairs" not in name:
            # Each sample is loaded by one process; the first one by all, for its shape.
            assert sum(every[name]["read"] - 1 for every in each) == single[name]["read"] - 1
            assert max(every[name]["read"] for every in each) < 1.5 * single[name]["read"] / n + 3
    for every in each:
        assert_weights(every["from one"], single["odd"]["weights"])
        assert_weights(every["signal"], single["odd"]["weights"])
        assert "stopped in epoch 1 of 3" in every["stopped"][0]
        assert every["stopped"][1] < 15
        assert "of the data holds NaN or infinite values" in every["nan"]
    assert not each[0]["mask"].equal(each[1]["mask"])


@by_processes
def test_unlike_checkpoints_of_one_name_are_not_evaluated_together(n: int, results: Path) -> None:
    for rank in range(n):
        message = (results / "different" / f"{rank}").read_text()
        assert "the processes must have the checkpoint of vgg11-0.1x.imagenet in common" in message


def test_one_gpu_is_not_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.distributed.device_of", torch.device)
    assert choose_device("cuda:0") == torch.device("cuda", 0)
    monkeypatch.setattr("zoo.distributed.is_distributed", lambda: True)
    with pytest.raises(ZooError, match="cuda:0` is one GPU for several processes: give `device=cuda`"):
        choose_device("cuda:0")


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5), (6, 3, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_batch_norm_of_several_is_torchs(shape: tuple[int, ...], affine: bool, dtype: torch.dtype) -> None:
    """In a single process, against torch's; autocast gives it inputs of half precision and float32 weights."""
    torch.manual_seed(0)
    x, exact = torch.randn(shape, dtype=dtype) + 5, torch.promote_types(dtype, torch.float32)
    weights = [torch.randn(3, dtype=exact) if affine else None for _ in range(2)]
    actual = []
    for batch_norm in (F.batch_norm, sync_batch_norm._batch_norm):
        operands = [None if each is None else each.clone().requires_grad_() for each in (x, *weights)]
        running = [torch.zeros(3, dtype=exact), torch.ones(3, dtype=exact)]
        y = batch_norm(operands[0], *running, *operands[1:], True, 0.3, 1e-3)
        y.to(exact).pow(3).sum().backward()
        actual.append([y.detach(), *running, *(each.grad for each in operands if each is not None)])
    close = {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 0.02, "atol": 0.05}
    torch.testing.assert_close(actual[1], actual[0], **close)


LONG = """
import os, signal, sys, time
sys.path.insert(0, {support!r})
from pathlib import Path
import torch
from training_runs import RUNS, Read, dropping, samples, seeded
from zoo import ZooError, distributed
from zoo.train import loop as module

what, folder = sys.argv[1], Path(sys.argv[2])
module.SAVE_SECONDS = 0.0  # save after every step

def act():
    if what == "kill" and distributed.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "wait":
        (folder / f"waits{{distributed.rank()}}").touch()
        time.sleep(2)
    if what == "nan" and distributed.rank() == 1:
        data.tensors[0].fill_(torch.nan)

recipe, data = RUNS["parts"][2], samples(29, 5)
try:
    with distributed.process_group():
        at = {{{{"kill": 12, "wait": 10, "nan": 3}}.get(what, 0): act}}
        state, log = (None, None) if what == "nan" else (folder / "run.pt", folder / "log.jsonl")
        teacher = seeded(dropping, 1)
        made = module.train(
            seeded(dropping), Read(data, at), recipe, seed=3, checkpoint=state, log=log, teacher=teacher
        )
        if what == "finish":
            whole = module.train(seeded(dropping), data, recipe, seed=3, teacher=teacher)
            same = all(map(torch.equal, made.state_dict().values(), whole.state_dict().values()))
            (folder / f"same{{distributed.rank()}}").write_text(str(same))
except ZooError as error:
    raise SystemExit(f"Error: {{error}}")
"""


@pytest.fixture
def long(tmp_path: Path) -> Path:
    script = tmp_path / "long.py"
    script.write_text(LONG.format(support=SUPPORT))
    return script


@pytest.mark.slow
def test_kill_9_of_one_and_sigterm_to_all_then_the_weights_of_a_whole_run(long: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    killed = torchrun(3, [str(long), "kill", str(tmp_path)])
    assert killed.returncode != 0
    assert time.monotonic() - started < 60
    assert "has lost the others: one of them has ended" in killed.stderr
    first = torch.load(tmp_path / "run.pt", weights_only=True)
    assert (first["state"]["epoch"], first["state"]["step"]) == (0, 3)

    command = [*launcher(3), str(long), "wait", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as process:
        while process.poll() is None and len(list(tmp_path.glob("waits*"))) < 3:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert stderr.count("is saved, and the same command goes on from here") == 3
    second = torch.load(tmp_path / "run.pt", weights_only=True)
    assert second["state"]["epoch"] == 1
    assert len({state[0].numpy().tobytes() for state in [(second["random"],), *second["others"]]}) == 3

    shutil.copytree(tmp_path, tmp_path / "other")
    finished = torchrun(3, [str(long), "finish", str(tmp_path)])
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert [(tmp_path / f"same{rank}").read_text() for rank in range(3)] == ["True"] * 3
    assert [json.loads(line)["epoch"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2, 3]

    # Another number of processes goes on as well, with random states of its own.
    log, teacher = tmp_path / "other.jsonl", seeded(dropping, 1)
    state, recipe = tmp_path / "other" / "run.pt", RUNS["parts"][2]
    train(seeded(dropping), samples(29, 5), recipe, seed=3, checkpoint=state, log=log, teacher=teacher)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[:1] == second["state"]["history"]
    assert len(lines) == 3


@pytest.mark.slow
def test_an_error_in_one_process_alone_ends_all_and_is_told(long: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    done = torchrun(2, [str(long), "nan", str(tmp_path)])
    assert done.returncode != 0
    assert time.monotonic() - started < 60
    assert "of the data holds NaN or infinite values" in done.stderr


@pytest.mark.slow
def test_the_command_makes_the_same_entry(images: Path, homes: list[str], tmp_path: Path) -> None:
    """torchrun -m zoo.train, against zoo train."""
    words = [*TRAIN, "--epochs", "2", "--data-dir", str(images)]
    shared = torchrun(2, ["-m", "zoo.train", *words[1:]], env={"ZOO_HOME": str(tmp_path)})
    assert shared.returncode == 0, shared.stderr
    assert shared.stderr.count("epoch 2/2") == 1
    assert list((tmp_path / "runs").iterdir()) == []
    one, two = card_in(homes[0]), json.loads(shared.stdout)["card"]  # printed once
    assert two["accuracy"] == one["accuracy"]
    assert two["cross_entropy"] == pytest.approx(one["cross_entropy"], abs=1e-4)
    assert two["recipe"] == one["recipe"]


@pytest.mark.slow
def test_commands_evaluate_and_prune_as_one_process_does(images: Path, homes: list[str], tmp_path: Path) -> None:
    two, one = (str(shutil.copytree(homes[0], tmp_path / name)) for name in ("two", "one"))
    card = card_in(one)
    evaluate = ["eval", card["name"], "--data-dir", str(images), "--device", "cpu", "--json"]
    evaluated = torchrun(2, ["-m", "zoo", *evaluate], env={"ZOO_HOME": two})
    assert json.loads(evaluated.stdout)["accuracy"]["correct"] == card["accuracy"]["correct"], evaluated.stderr
    prune = ["reprune", card["name"], "--eps", "0.2", "--images", "19", "--finetune-epochs", "1", "--half"]
    prune += ["--data-dir", str(images), "--device", "cpu", "--json"]
    single = CliRunner().invoke(main, prune, env={"ZOO_HOME": one})
    pruned = torchrun(2, ["-m", "zoo", *prune], env={"ZOO_HOME": two})
    assert pruned.returncode == 0, pruned.stderr
    small, other = (json.loads(text)["card"] for text in (pruned.stdout, single.stdout))
    assert small["widths"] == other["widths"] != card["widths"]
    assert small["accuracy"] == other["accuracy"]
    assert small["cross_entropy"] == pytest.approx(other["cross_entropy"], abs=1e-3)
    assert small["recipe"]["command"] == other["recipe"]["command"]
    assert small["file"]["weights"] == other["file"]["weights"]


@pytest.mark.slow
def test_wrong_words_are_answered_once(images: Path, homes: list[str]) -> None:
    home, name = {"ZOO_HOME": homes[0]}, card_in(homes[0])["name"]
    listed = torchrun(2, ["-m", "zoo", "list"], env=home)
    assert listed.stderr.count("zoo list is for one process: start it without torchrun") == 1
    assert listed.stdout == ""
    unknown = torchrun(3, ["-m", "zoo", "eval", name, "--pints", "8"], env=home)
    assert unknown.stderr.count("No such option") == 1
    assert "exitcode  : 2" in unknown.stderr
    program = ["--no-python", str(Path(sys.executable).with_name("zoo"))]
    wrong = torchrun(2, [*program, "finetune", name, "--lr", "-1", "--data-dir", str(images)], env=home)
    assert wrong.returncode != 0
    assert "a learning rate of -1.0 is not possible" in wrong.stderr
    assert "exitcode  : 2" in wrong.stderr
    assert wrong.stdout == ""


def card_in(home: str) -> dict[str, Any]:
    """The card of the one entry of a zoo."""
    (path,) = Path(home).glob("own/*.json")
    card: dict[str, Any] = json.loads(path.read_text())
    return card
