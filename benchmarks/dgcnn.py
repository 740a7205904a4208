"""DGCNN beside its written-out form: forward, training step, peak memory, and how far the results differ.

    python benchmarks/dgcnn.py [--device cuda] [--json results.json]

The written-out form is the layer as the paper's formula says, every edge a row, and a search that holds all N x N
distances, as in the authors' code. Both forms run interleaved, in an order shuffled anew each round; the ratio is that
of one round, its median and its 5th and 95th percentile over the rounds. Peak memory is what a fresh process holds at
most during one call, above what it held before. On a GPU it also prints the part of the card's limit that is reached.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.evaluate import forward_times
from zoo.models import DGCNN, EdgeConv, dgcnn
from zoo.utils import keep_freed_memory

POINTS = 1024


class WrittenOut(nn.Module):
    """An EdgeConv layer as its formula says, with the parameters of the fast one."""

    def __init__(self, layer: EdgeConv) -> None:
        super().__init__()
        self.conv, self.bn, self.k, self.slope = layer.conv, layer.bn, layer.k, layer.slope

    def forward(self, x: Tensor) -> Tensor:
        B, C, N = x.shape
        inner = x.transpose(1, 2) @ x
        norm = x.square().sum(1, keepdim=True)
        index = (2 * inner - norm - norm.transpose(1, 2)).topk(self.k, dim=2).indices
        rows = (index + N * torch.arange(B, device=x.device).view(B, 1, 1)).flatten()
        points = x.transpose(1, 2).reshape(B * N, C)
        neighbours = points[rows].view(B, N, self.k, C)
        centre = points.view(B, N, 1, C).expand(-1, -1, self.k, -1)
        edges = torch.cat([neighbours - centre, centre], 3).permute(0, 3, 1, 2).contiguous()
        return F.leaky_relu(self.bn(self.conv(edges)), self.slope).max(3).values


def written_out(model: DGCNN) -> DGCNN:
    model = copy.deepcopy(model)
    for name, layer in list(model.named_children()):
        if isinstance(layer, EdgeConv):
            setattr(model, name, WrittenOut(layer))
    return model


def network() -> DGCNN:
    """Random weights, moved batch-norm statistics, gains of both signs: the cost does not depend on them."""
    torch.manual_seed(0)
    model = dgcnn()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1, 2)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def step(model: DGCNN, x: Tensor, labels: Tensor) -> None:
    model.zero_grad()
    F.cross_entropy(model(x), labels).backward()


def interleaved(calls: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> list[float]:
    """Ratio slow / fast of every round."""
    ratios, order = [], list(calls)
    for turn in range(2 + rounds):
        random.shuffle(order)
        seconds = {}
        for name in order:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            begin = time.perf_counter()
            calls[name]()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[name] = time.perf_counter() - begin
        if turn >= 2:
            ratios.append(seconds["written out"] / seconds["fast"])
    return ratios


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def peak(form: str, what: str, batch: int, points: int) -> int:
    """Bytes that a fresh process holds at most during one call, above what it held before: the median of three, for the
    system gives memory now in large pages, now in small ones."""
    command = [sys.executable, __file__, "--probe", form, what, str(batch), str(points)]
    held = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(3)]
    return int(statistics.median(map(int, held)))


def probe(form: str, what: str, batch: int, points: int) -> None:
    model = network() if form == "fast" else written_out(network())
    x = torch.randn(batch, 3, points)
    labels = torch.arange(batch) % 40
    small = torch.randn(2, 3, 64)  # what libraries allocate once is not the network's
    _call(model, small, labels[:2] if batch > 1 else torch.arange(2), what)
    before = _high_water(reset=True)
    _call(model, x, labels, what)
    print(_high_water() - before)


def _high_water(*, reset: bool = False) -> int:
    """The most bytes of memory this process held since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _call(model: DGCNN, x: Tensor, labels: Tensor, what: str) -> None:
    if what == "forward":
        with torch.inference_mode():
            model.eval()(x)
    else:
        step(model.train(), x, labels)


def spread(ratios: list[float]) -> tuple[float, float, float]:
    low, high = torch.tensor(ratios).quantile(torch.tensor([0.05, 0.95])).tolist()
    return statistics.median(ratios), low, high


def gradients(model: DGCNN, x: Tensor, labels: Tensor) -> Tensor:
    """All gradients of a training step, in float64: in float32 the two forms round distances differently, so here and
    there another neighbour is the twentieth, in either form."""
    model = copy.deepcopy(model).double().train()
    model.drop.p = 0.0
    step(model, x.double(), labels)
    return torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]


def floor_seconds(batch: int, device: torch.device) -> tuple[float, float]:
    """The least time this device needs for the forward pass: (by operations, by bytes), its rates measured here.

    Operations: two per multiply-accumulate of the search (N x N x C a layer), of the split linear maps and of what
    follows. Bytes: every layer's input read once, its output and its neighbours' indices written once, and the rows
    gathered once for each of the k neighbours.
    """
    widths, k, N = (3, 64, 64, 128, 256), 20, POINTS
    macs = moved = 0
    for into, out in itertools.pairwise(widths):
        macs += N * N * into + 2 * N * into * out
        moved += 4 * N * (into + out + k * out) + 8 * N * k
    macs += N * 512 * 1024 + 2048 * 512 + 512 * 256 + 256 * 40
    moved += 4 * N * (512 + 1024)
    a = torch.randn(8192, 8192, device=device)
    big = torch.empty(2**28, device=device)

    def best(call: Callable[[], object]) -> float:
        times = []
        for _ in range(5):
            torch.cuda.synchronize(device)
            begin = time.perf_counter()
            call()
            torch.cuda.synchronize(device)
            times.append(time.perf_counter() - begin)
        return min(times)

    rate = 8192**3 / best(lambda: a @ a)
    bandwidth = 2 * 4 * big.numel() / best(lambda: big.clone())
    return batch * macs / rate, batch * moved / bandwidth


@click.command()
@click.option("--device", default="cpu")
@click.option("--rounds", default=9)
@click.option("--json", "to", type=click.Path(path_type=Path))
def main(device: str, rounds: int, to: Path | None) -> None:
    keep_freed_memory()
    where = torch.device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("There is no CUDA GPU here: leave out --device.")
    fast = network().to(where).eval()
    slow = written_out(network()).to(where).eval()
    rows: dict[str, object] = {}

    def put(name: str, row: object) -> None:
        rows[name] = row
        if to is not None:  # after every row: whatever ends the run, those are there
            to.write_text(json.dumps(rows, indent=2))

    def note(name: str, ratios: list[float], **more: float) -> None:
        median, low, high = spread(ratios)
        put(name, {"speedup": median, "p5": low, "p95": high, "rounds": len(ratios), **more})
        extras = "".join(f", {key} {value:.3g}" for key, value in more.items())
        click.echo(f"{name}: {median:.2f}x ({low:.2f} to {high:.2f}){extras}")

    for batch in (8, 1) if where.type == "cpu" else (32, 1):
        x = torch.randn(batch, 3, POINTS, device=where)
        labels = torch.arange(batch, device=where) % 40
        with torch.inference_mode():
            off = difference(fast(x), slow(x))
            ratios = interleaved({"fast": lambda: fast(x), "written out": lambda: slow(x)}, rounds, where)  # noqa: B023
        more = {}
        if where.type == "cpu":
            more["memory"] = peak("written out", "forward", batch, POINTS) / peak("fast", "forward", batch, POINTS)
        note(f"forward, batch {batch}", ratios, difference=off, **more)
        if batch == 1:
            continue
        models = {"fast": copy.deepcopy(fast).train(), "written out": copy.deepcopy(slow).train()}
        few = slice(8)  # in float64, what is written out takes gigabytes for more
        off = difference(gradients(fast, x[few], labels[few]), gradients(slow, x[few], labels[few]))
        calls = {name: lambda m=m: step(m, x, labels) for name, m in models.items()}  # noqa: B023
        if where.type == "cpu":
            more["memory"] = peak("written out", "training", batch, POINTS) / peak("fast", "training", batch, POINTS)
        note(f"training step, batch {batch}", interleaved(calls, rounds, where), difference=off, **more)
    if where.type == "cpu":
        used = peak("fast", "forward", 1, 16384)
        put("16384 points, peak bytes", used)
        click.echo(f"forward, 16384 points, batch 1: {used / 2**20:.0f} MiB at most")
    else:
        for batch in (32, 1):
            x = torch.randn(batch, 3, POINTS, device=where)
            operations, bytes_ = floor_seconds(batch, where)
            for mode in ("eager", "compiled", "cuda_graph"):
                try:
                    times = forward_times({"written out": slow, "fast": fast}, x, mode=mode, repeats=50)["fast"]
                except (RuntimeError, ZooError) as error:  # a compiler's, say; the other modes are timed all the same
                    click.echo(f"{mode}, batch {batch}: not timed, {error}", err=True)
                    continue
                part = max(operations, bytes_) / times.median
                put(f"{mode}, batch {batch}", {"ms": times.median * 1e3, "speedup": times.speedup, "limit": part})
                click.echo(f"{torch.cuda.get_device_name(where)}, {mode}, batch {batch}: {times.median * 1e3:.3f} ms, "
                           f"{times.speedup:.2f}x, {100 * part:.0f} % of the limit "
                           f"({operations * 1e3:.3f} ms by operations, {bytes_ * 1e3:.3f} ms by bytes)")  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--probe"]:
        probe(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
