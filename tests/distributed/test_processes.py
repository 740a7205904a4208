"""Processes that work as one, against the same work done by one."""

import json
import time
from pathlib import Path

import pytest
import torch
from several import together, torchrun

from zoo.distributed import processes


def test_alone_everything_is_as_it_is() -> None:
    x = torch.arange(6.0)
    assert (processes.world_size(), processes.rank(), processes.is_distributed()) == (1, 0, False)
    assert processes.all_reduce(x) is x
    assert processes.all_reduce_with_grad(x) is x
    assert processes.all_gather_rows(x, 6) is x
    assert x[processes.shard(6)].equal(x)
    assert processes.run_on_rank0(lambda: 3) == 3
    assert processes.all_gather_object("a") == ["a"]


BODY = """
import json

def work():
    if processes.rank() == 0:
        raise processes.ZooError("no")

x = torch.arange(14.0).view(7, 2)
rows, few = x[processes.shard(7)], x[:1][processes.shard(1)]  # the second: fewer samples than processes
weight = torch.tensor([1.0, 2.0], requires_grad=True)
sums = processes.all_reduce_with_grad((rows * weight).sum(0))
(rows * weight * sums).sum().backward()  # each process's loss is that of its own rows
seen = {
    "whole": processes.all_gather_rows(rows, 7).tolist(), "few": processes.all_gather_rows(few, 1).tolist(),
    "total": processes.all_reduce(rows.sum(0)).tolist(), "count": processes.world_size(), "rows": len(rows),
    "gathered": processes.all_gather_object(processes.rank()), "first": processes.run_on_rank0(processes.rank),
    "sums": sums.tolist(), "gradient": processes.all_reduce(weight.grad).tolist(),
}
try:
    processes.run_on_rank0(work)
except processes.ZooError as error:
    seen["error"] = str(error)
(folder / f"{processes.rank()}.json").write_text(json.dumps(seen))
"""


@pytest.mark.parametrize("n", [2, 3])
def test_sums_rows_and_values_over_processes(n: int, tmp_path: Path) -> None:
    together(n, BODY, tmp_path)
    x = torch.arange(14.0).view(7, 2)
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    sums = (x * weight).sum(0)
    (x * weight * sums).sum().backward()
    assert weight.grad is not None
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(n)]
    assert [each.pop("rows") for each in seen] == [len(part) for part in x.tensor_split(n)]
    for each in seen:
        assert each == {
            "whole": x.tolist(), "few": x[:1].tolist(), "total": x.sum(0).tolist(), "count": n, "error": "no",
            "gathered": list(range(n)), "first": 0, "sums": sums.tolist(), "gradient": weight.grad.tolist(),
        }  # fmt: skip


WAITING = """
import os, signal, time
if processes.rank() == 1:
    time.sleep(3)
    os.kill(os.getpid(), signal.SIGKILL)
processes.all_reduce(torch.ones(1))
"""


def test_a_process_that_dies_ends_the_others_with_a_message(tmp_path: Path) -> None:
    script = tmp_path / "dies.py"
    lines = "".join(f"        {line}\n" for line in WAITING.strip().splitlines())
    script.write_text(
        "import torch\nfrom zoo.distributed import processes\n"
        f"try:\n    with processes.process_group():\n{lines}"
        "except processes.ZooError as error:\n    raise SystemExit(f'Error: {error}')\n"
    )
    started = time.monotonic()
    done = torchrun(3, [str(script)])
    assert done.returncode != 0
    assert time.monotonic() - started < 60
    assert done.stderr.count("What was saved is kept, and the same command goes on from there") == 2


THREADS = """
import atexit, os
import torch._dynamo  # as torch's optimizers do

def note():
    names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    (folder / f"threads{os.environ['RANK']}").write_text("\\n".join(names))

processes.all_reduce(torch.ones(1))
atexit.register(note)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are named under Linux's /proc")
def test_no_connection_is_left_when_the_interpreter_ends(tmp_path: Path) -> None:
    together(2, THREADS, tmp_path)
    for number in range(2):
        assert "gloo" not in (tmp_path / f"threads{number}").read_text()
