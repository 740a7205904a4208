"""Pruning by several processes, against the same by one: equal choices, statistics to rounding."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_runs import SUPPORT, run_distributed, torchrun
from exact_search import exact
from pruning_runs import NETWORKS, RUNS, results

from zoo.prune import prune

pytestmark = pytest.mark.slow

# Sums of float64 in another order.
CLOSE = {"rtol": 1e-7, "atol": 1e-9}
FAST = {"vgg": ["combined", "repaired"], "dgcnn": ["combined"]}
ALL = {"vgg": list(RUNS), "dgcnn": ["combined", "repaired", "weighted", "last steps", "held out"]}

PRUNE = """
from pruning_runs import results
for network, runs in RUNS.items():
    for name, result in results(network, runs):
        torch.save(result, folder / f"{network} {name} {distributed.rank()}.pt")
"""

RESUME = """
from pruning_runs import results
for name, result in results("vgg", RUNS["vgg"], folder):
    torch.save(result, folder / f"{name} {distributed.rank()}.pt")
"""

FEW = """
from exact_search import exact
from pruning_runs import dgcnn
from zoo.prune import prune
model, (x, y) = dgcnn()
for method in ("local", "repaired"):
    small, _ = prune(model, (x[:2], y[:2]), method=method, eps=0.2, options=exact())
    torch.save(small(x), folder / f"{method} {distributed.rank()}.pt")
"""

DIFFERENT = """
from pruning_runs import vgg
from zoo.prune import prune
model, (x, y) = vgg()
try:
    prune(model, (x + distributed.rank(), y), eps=0.1)
except ZooError as error:
    (folder / f"{distributed.rank()}").write_text(str(error))
"""


def assert_same(actual: dict[str, Any], expected: dict[str, Any], what: str) -> None:
    for key in ("widths", "winners"):
        assert actual[key] == expected[key], what
    assert actual["gaps"] == pytest.approx(expected["gaps"], rel=1e-6, abs=1e-8), what
    assert [name for name, _ in actual["steps"]] == [name for name, _ in expected["steps"]], what
    torch.testing.assert_close(actual["logits"], expected["logits"], **CLOSE, msg=lambda text: f"{what}: {text}")


def by_one(runs: dict[str, list[str]]) -> dict[str, dict[str, Any]]:
    return {f"{network} {name}": actual for network in runs for name, actual in results(network, runs[network])}


def assert_all_prune_alike(folder: Path, n: int, expected: dict[str, dict[str, Any]]) -> None:
    for what, one in expected.items():
        assert sum(one["widths"].values()) < sum(NETWORKS[what.split()[0]]()[0].widths.values()), what  # type: ignore[arg-type]
        every = [torch.load(folder / f"{what} {rank}.pt") for rank in range(n)]
        assert_same(every[0], one, what)
        for other in every[1:]:
            for name, tensor in other["state"].items():
                assert tensor.equal(every[0]["state"][name]), f"{what}: {name} differs between processes"
            assert other["gaps"] == every[0]["gaps"]


@pytest.fixture(scope="module")
def resume_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which `one` writes the resume files of its runs of VGG."""
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def one(resume_files: Path) -> dict[str, dict[str, Any]]:
    vgg = {f"vgg {name}": actual for name, actual in results("vgg", FAST["vgg"], resume_files)}
    return {**vgg, **by_one({"dgcnn": FAST["dgcnn"]})}


@pytest.fixture(scope="module")
def two(one: Any, resume_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of all texts by two processes."""
    folder = tmp_path_factory.mktemp("two")
    interrupted = Path(shutil.copytree(resume_files, folder / "resume"))
    for name in FAST["vgg"]:
        journal = interrupted / f"{name}.json"
        content = json.loads(journal.read_text())
        content["groups"] = content["groups"][:2]  # as if killed after two groups
        journal.write_text(json.dumps(content))
    run_distributed(2, {"prune": PRUNE, "resume": RESUME, "different": DIFFERENT}, folder, RUNS=FAST)
    return folder


def test_several_processes_prune_the_network_that_one_does(one: Any, two: Path) -> None:
    assert_all_prune_alike(two / "prune", 2, one)


def test_a_run_that_one_process_began_goes_on_in_two(one: Any, two: Path) -> None:
    for name in FAST["vgg"]:
        assert_same(torch.load(two / "resume" / f"{name} 1.pt"), one[f"vgg {name}"], name)
        journal = json.loads((two / "resume" / f"{name}.json").read_text())
        assert len(journal["groups"]) == len(one[f"vgg {name}"]["gaps"])


def test_processes_with_different_samples_are_told(two: Path) -> None:
    for rank in range(2):
        assert "different networks, samples or settings" in (two / "different" / f"{rank}").read_text()


@pytest.mark.parametrize("n", [2, 3])
def test_every_method_prunes_alike_in_several_processes(n: int, tmp_path: Path) -> None:
    run_distributed(n, {"prune": PRUNE}, tmp_path, RUNS=ALL)
    assert_all_prune_alike(tmp_path / "prune", n, by_one(ALL))


def test_more_processes_than_samples(tmp_path: Path) -> None:
    run_distributed(3, {"few": FEW}, tmp_path)
    model, (x, y) = NETWORKS["dgcnn"]()
    for name in ("local", "repaired"):
        small, _ = prune(model, (x[:2], y[:2]), method=name, eps=0.2, options=exact())
        for rank in range(3):
            torch.testing.assert_close(torch.load(tmp_path / "few" / f"{name} {rank}.pt"), small(x), **CLOSE)


DIES = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {support!r})
from pruning_runs import results
from zoo import ZooError, distributed

folder = Path({folder!r})
all_reduce = distributed.all_reduce

def dying(tensor):
    journal = folder / "combined.json"
    if distributed.rank() == 1 and journal.exists() and len(json.loads(journal.read_text())["groups"]) >= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return all_reduce(tensor)

distributed.all_reduce = dying
try:
    with distributed.process_group():
        list(results("vgg", ["combined"], folder))
except ZooError as error:
    raise SystemExit(f"Error: {{error}}")
"""


def test_one_that_dies_while_pruning_ends_the_other_and_its_groups_are_kept(one: Any, tmp_path: Path) -> None:
    script = tmp_path / "dies.py"
    script.write_text(DIES.format(support=SUPPORT, folder=str(tmp_path)))
    started = time.monotonic()
    done = torchrun(2, [str(script)])
    assert done.returncode != 0
    assert time.monotonic() - started < 60
    # It is in a sum that breaks, or torchrun's SIGTERM comes first.
    reasons = ("has lost the others: one of them has ended", "was told to stop (SIGTERM): another has ended")
    assert any(f"Error: process 0 of 2 {reason}" in done.stderr for reason in reasons), done.stderr
    assert done.stderr.count("What was saved is kept, and the same command goes on from there") == 1
    expected = one["vgg combined"]
    assert 2 <= len(json.loads((tmp_path / "combined.json").read_text())["groups"]) < len(expected["gaps"])
    ((_, actual),) = results("vgg", ["combined"], tmp_path)
    assert_same(actual, expected, "combined")


def test_samples_and_networks_are_large_enough_to_tell_something() -> None:
    """The comparison would be idle if every group stayed whole or every run kept the same neurons."""
    model, data = NETWORKS["vgg"]()
    options = exact(batch_size=8)
    combined, l1 = (prune(model, data, eps=0.1, method=method, options=options)[0] for method in ("combined", "l1"))
    assert combined.widths != l1.widths
