"""Pruning by several processes, against the same by one: equal choices, statistics to rounding."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from pruning_runs import NETWORKS, RUNS, results
from several import together, torchrun

from zoo.prune import Options, prune

# Sums of float64 in another order.
CLOSE = {"rtol": 1e-7, "atol": 1e-9}
CLOUDS = ["combined", "repaired", "weighted", "last steps"]

BODY = """
from pruning_runs import results
folder = {folder!r}
for network, runs in {runs!r}.items():
    for name, found in results(network, runs, folder if {journal!r} else None):
        torch.save(found, folder / f"{{network}} {{name}} {{processes.rank()}}.pt")
"""


def _by_several(n: int, runs: dict[str, list[str]], folder: Path, *, journal: bool = False) -> None:
    together(n, BODY.format(folder=folder, runs=runs, journal=journal), folder)


def _same(found: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
    for key in ("widths", "winners"):
        assert found[key] == wanted[key], what
    assert found["gaps"] == pytest.approx(wanted["gaps"], rel=1e-6, abs=1e-8), what
    assert [name for name, _ in found["steps"]] == [name for name, _ in wanted["steps"]], what
    torch.testing.assert_close(found["logits"], wanted["logits"], **CLOSE, msg=lambda text: f"{what}: {text}")


@pytest.fixture(scope="module")
def by_one() -> dict[str, dict[str, Any]]:
    runs = {"vgg": list(RUNS), "dgcnn": CLOUDS}
    return {f"{network} {name}": found for network in runs for name, found in results(network, runs[network])}


@pytest.mark.parametrize("n", [2, 3])
def test_several_processes_prune_the_network_that_one_does(n: int, by_one: Any, tmp_path: Path) -> None:
    _by_several(n, {"vgg": list(RUNS), "dgcnn": CLOUDS}, tmp_path)
    for what, wanted in by_one.items():
        assert sum(wanted["widths"].values()) < sum(NETWORKS[what.split()[0]]()[0].widths.values()), what  # type: ignore[arg-type]
        every = [torch.load(tmp_path / f"{what} {rank}.pt") for rank in range(n)]
        _same(every[0], wanted, what)
        for other in every[1:]:
            for name, tensor in other["state"].items():
                assert tensor.equal(every[0]["state"][name]), f"{what}: {name} differs between processes"
            assert other["gaps"] == every[0]["gaps"]


def test_what_one_process_began_two_go_on_with(by_one: Any, tmp_path: Path) -> None:
    list(results("vgg", ["combined", "repaired"], tmp_path))
    for name in ("combined", "repaired"):
        journal = tmp_path / f"{name}.json"
        content = json.loads(journal.read_text())
        content["groups"] = content["groups"][:2]  # killed after two groups
        journal.write_text(json.dumps(content))
    (tmp_path / "combined.known.json").unlink()
    _by_several(2, {"vgg": ["combined", "repaired"]}, tmp_path, journal=True)
    for name in ("combined", "repaired"):
        _same(torch.load(tmp_path / f"vgg {name} 1.pt"), by_one[f"vgg {name}"], name)
        assert len(json.loads((tmp_path / f"{name}.json").read_text())["groups"]) == len(by_one[f"vgg {name}"]["gaps"])


DIES = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {support!r})
from pruning_runs import results
from zoo import distributed
from zoo.distributed import processes

folder = Path({folder!r})
all_reduce = distributed.all_reduce

def dying(tensor):
    journal = folder / "combined.json"
    if processes.rank() == 1 and journal.exists() and len(json.loads(journal.read_text())["groups"]) >= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return all_reduce(tensor)

distributed.all_reduce = dying
try:
    with processes.process_group():
        list(results("vgg", ["combined"], folder))
except processes.ZooError as error:
    raise SystemExit(f"Error: {{error}}")
"""


def test_one_that_dies_while_pruning_ends_the_other_and_its_groups_are_kept(by_one: Any, tmp_path: Path) -> None:
    script, support = tmp_path / "dies.py", str(Path(__file__).parents[1] / "support")
    script.write_text(DIES.format(support=support, folder=str(tmp_path)))
    started = time.monotonic()
    done = torchrun(2, [str(script)])
    assert done.returncode != 0
    assert time.monotonic() - started < 60
    # It is in a sum that breaks, or torchrun's SIGTERM comes first.
    reasons = ("has lost the others: one of them has ended", "was told to stop (SIGTERM): another has ended")
    assert any(f"Error: process 0 of 2 {reason}" in done.stderr for reason in reasons), done.stderr
    assert done.stderr.count("What was saved is kept, and the same command goes on from there") == 1
    wanted = by_one["vgg combined"]
    assert 2 <= len(json.loads((tmp_path / "combined.json").read_text())["groups"]) < len(wanted["gaps"])
    ((_, found),) = results("vgg", ["combined"], tmp_path)
    _same(found, wanted, "combined")


FEW = """
from pruning_runs import dgcnn
from zoo.prune import Repair, prune
model, (x, y) = dgcnn()
for name, given in {"local": {"method": "local", "eps": 0.2}, "repaired": {"method": "repaired", "eps": 0.2}}.items():
    small, _ = prune(model, (x[:2], y[:2]), **given)
    torch.save(small(x), folder / f"{name} {processes.rank()}.pt")
"""


def test_more_processes_than_samples(tmp_path: Path) -> None:
    together(3, FEW, tmp_path)
    model, (x, y) = NETWORKS["dgcnn"]()
    for name in ("local", "repaired"):
        small, _ = prune(model, (x[:2], y[:2]), method=name, eps=0.2)
        for rank in range(3):
            torch.testing.assert_close(torch.load(tmp_path / f"{name} {rank}.pt"), small(x), **CLOSE)


DIFFERENT = """
from pruning_runs import vgg
from zoo.prune import prune
model, (x, y) = vgg()
try:
    prune(model, (x + processes.rank(), y), eps=0.1)
except processes.ZooError as error:
    (folder / f"{processes.rank()}").write_text(str(error))
"""


def test_processes_with_different_samples_are_told(tmp_path: Path) -> None:
    together(2, DIFFERENT, tmp_path)
    for rank in range(2):
        assert "different networks, samples or settings" in (tmp_path / f"{rank}").read_text()


def test_samples_and_networks_are_large_enough_to_tell_something() -> None:
    """The comparison would be idle if every group stayed whole or every run kept the same neurons."""
    model, data = NETWORKS["vgg"]()
    options = Options(batch_size=8)
    kept = {method: prune(model, data, eps=0.1, method=method, options=options)[0].widths for method in ("combined", "l1")}
    assert kept["combined"] != kept["l1"]
