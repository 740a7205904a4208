"""Collective operations of several processes, against the same computed by one."""

import json
import time
from pathlib import Path

import pytest
import torch
from distributed_runs import run_distributed, torchrun

from zoo import distributed
from zoo.distributed.collectives import all_reduce_with_grad
from zoo.errors import ZooError

SUMS = """
import json
from zoo.distributed.collectives import all_reduce_with_grad

def fails_on(rank):
    if distributed.rank() == rank:
        raise ZooError("no")

x = torch.arange(14.0).view(7, 2)
rows, few = x[distributed.shard(7)], x[:1][distributed.shard(1)]  # the second: fewer samples than processes
weight = torch.tensor([1.0, 2.0], requires_grad=True)
sums = all_reduce_with_grad((rows * weight).sum(0))
(rows * weight * sums).sum().backward()  # the loss of each process is that of its own rows
result = {
    "rows": len(rows), "all rows": distributed.all_gather_rows(rows, 7).tolist(),
    "few rows": distributed.all_gather_rows(few, 1).tolist(), "sum": distributed.all_reduce(rows.sum(0)).tolist(),
    "world size": distributed.world_size(), "objects": distributed.all_gather_object(distributed.rank()),
    "rank 0": distributed.run_on_rank0(distributed.rank), "any": distributed.any_rank(distributed.rank() == 1, False),
    "sum with grad": sums.tolist(), "gradient": distributed.all_reduce(weight.grad).tolist(),
}
try:
    distributed.run_on_rank0(lambda: fails_on(0))
except ZooError as error:
    result["error of rank 0"] = str(error)
try:
    with distributed.shared_errors():
        fails_on(1)
except ZooError as error:
    result["error of rank 1"] = str(error)

def fetch():
    there = (folder / "fetched").exists()
    (folder / "fetched").touch()
    return there

result["fetched"] = distributed.local_rank0_first(fetch)
(folder / f"{distributed.rank()}.json").write_text(json.dumps(result))
"""

THREADS = """
import atexit, os
import torch._dynamo  # as torch's optimizers do

def note():
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    (folder / f"threads{os.environ['RANK']}").write_text("\\n".join(names))

distributed.all_reduce(torch.ones(1))
if Path("/proc/self/task").exists():
    atexit.register(note)
"""

by_processes = pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow)], scope="module")


@pytest.fixture(scope="module")
def results(n: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of all texts by n processes."""
    folder = tmp_path_factory.mktemp(f"by{n}")
    run_distributed(n, {"sums": SUMS, "threads": THREADS}, folder)
    return folder


def test_in_a_single_process_nothing_changes() -> None:
    x = torch.arange(6.0)
    assert (distributed.world_size(), distributed.rank(), distributed.is_distributed()) == (1, 0, False)
    assert distributed.all_reduce(x) is x
    assert all_reduce_with_grad(x) is x
    assert distributed.all_gather_rows(x, 6) is x
    assert x[distributed.shard(6)].equal(x)
    assert distributed.run_on_rank0(lambda: 3) == 3
    assert distributed.all_gather_object("a") == ["a"]
    with pytest.raises(ZooError, match="no"), distributed.shared_errors():
        raise ZooError("no")


@by_processes
def test_sums_rows_and_values_over_processes(n: int, results: Path) -> None:
    x = torch.arange(14.0).view(7, 2)
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    sums = (x * weight).sum(0)
    (x * weight * sums).sum().backward()
    assert weight.grad is not None
    seen = [json.loads((results / "sums" / f"{rank}.json").read_text()) for rank in range(n)]
    assert [each.pop("rows") for each in seen] == [len(part) for part in x.tensor_split(n)]
    assert [each.pop("fetched") for each in seen] == [False] + [True] * (n - 1)
    for each in seen:
        assert each == {
            "all rows": x.tolist(), "few rows": x[:1].tolist(), "sum": x.sum(0).tolist(), "world size": n,
            "objects": list(range(n)), "rank 0": 0, "any": [True, False], "sum with grad": sums.tolist(),
            "gradient": weight.grad.tolist(), "error of rank 0": "no", "error of rank 1": "no",
        }  # fmt: skip


@by_processes
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are named under Linux's /proc")
def test_no_connection_is_left_when_the_interpreter_ends(n: int, results: Path) -> None:
    for rank in range(n):
        assert "gloo" not in (results / "threads" / f"threads{rank}").read_text()


DIES = """
import os, signal, time
import torch
from zoo import ZooError, distributed

try:
    with distributed.process_group():
        if distributed.rank() == 1:
            time.sleep(3)
            os.kill(os.getpid(), signal.SIGKILL)
        distributed.all_reduce(torch.ones(1))
except ZooError as error:
    raise SystemExit(f"Error: {error}")
"""


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others_with_a_message(tmp_path: Path) -> None:
    script = tmp_path / "dies.py"
    script.write_text(DIES)
    started = time.monotonic()
    done = torchrun(3, [str(script)])
    assert done.returncode != 0
    assert time.monotonic() - started < 60
    assert done.stderr.count("What was saved is kept, and the same command goes on from there") == 2
