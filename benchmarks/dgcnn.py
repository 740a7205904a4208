"""DGCNN beside its written-out form: forward, training step, peak memory, and how far the results differ.

    python benchmarks/dgcnn.py [--device cuda] [--rounds 15]

The written-out form is the layer as the paper's formula says, every edge a row, and a search that holds all N x N
distances, as in the authors' code. Both forms run interleaved (`zoo.evaluate.time_calls`); the ratio is that of one
round, its median and its 5th and 95th percentile over the rounds. Peak memory is what one call needs at most above what
was held before: on a CPU that of a fresh process, on a GPU what torch's allocator counts. At the end it prints how far
the logits of `dgcnn.shapes` move under torch.compile, torch.export and autocast.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from experiment import peak_bytes
from torch import Tensor, nn

import zoo
from zoo import datasets
from zoo.evaluate import batch_indices, batches, forward_times, time_calls
from zoo.models import DGCNN, EdgeConv, dgcnn
from zoo.utils import keep_freed_memory

POINTS = 1024
Row = tuple[str, dict[str, Any]]


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
    """A copy of the network whose EdgeConv layers are the written-out ones."""
    model = copy.deepcopy(model)
    for name, layer in list(model.named_children()):
        if isinstance(layer, EdgeConv):
            setattr(model, name, WrittenOut(layer))
    return model


def network() -> DGCNN:
    """DGCNN with random weights, moved batch-norm statistics and gains of both signs, on which the cost does not
    depend."""
    torch.manual_seed(0)
    model = dgcnn()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -1, 2)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model


def call(model: DGCNN, x: Tensor, labels: Tensor, what: str) -> None:
    """One forward in eval mode, or one training step without its update."""
    if what == "forward":
        with torch.inference_mode():
            model.eval()(x)
    else:
        model.train().zero_grad()
        F.cross_entropy(model(x), labels).backward()


def difference(a: Tensor, b: Tensor) -> float:
    """The relative difference |a - b| / |b|."""
    return float((a.double() - b.double()).norm() / b.double().norm())


def gradients(model: DGCNN, x: Tensor, labels: Tensor) -> Tensor:
    """All gradients of a training step in float64: in float32 the two forms round distances differently, so that here
    and there another neighbour is the twentieth, in either form."""
    model = copy.deepcopy(model).double()
    model.drop.p = 0.0
    call(model, x.double(), labels, "training step")
    return torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]


def peak(form: str, model: DGCNN, what: str, x: Tensor, labels: Tensor) -> float:
    """Bytes that one call needs at most, above what was held before.

    On a CPU that is the median of three fresh processes: the system gives memory now in large pages, now in small ones.
    """
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
        torch.cuda.reset_peak_memory_stats(x.device)
        before = torch.cuda.memory_allocated(x.device)
        call(model, x, labels, what)
        return torch.cuda.max_memory_allocated(x.device) - before
    command = [sys.executable, __file__, "--probe", form, what, str(len(x)), str(x.shape[2])]
    return statistics.median(
        int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3)
    )


def probe(form: str, what: str, batch: int, points: int) -> None:
    """Print the peak of one call in this process."""
    model = network() if form == "fast" else written_out(network())
    x, labels = torch.randn(batch, 3, points), torch.arange(batch) % 40
    call(model, torch.randn(2, 3, 64), torch.arange(2), what)  # what libraries allocate once is not the network's
    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak counts anew
    before = peak_bytes()
    call(model, x, labels, what)
    print(peak_bytes() - before)


def form_rows(
    device: torch.device, *, rounds: int, sizes: tuple[int, ...], points: int = POINTS, memory: bool = True
) -> Iterator[Row]:
    """How many times faster the fast form is, for each batch size, and how far its results are off."""
    for batch, what in itertools.product(sizes, ("forward", "training step")):
        if batch == 1 and what == "training step":
            continue
        fast = network().to(device).eval()
        forms = {"written out": written_out(fast), "fast": fast}
        x, labels = torch.randn(batch, 3, points, device=device), torch.arange(batch, device=device) % 40
        if what == "forward":
            with torch.inference_mode():
                off = difference(fast.eval()(x), forms["written out"].eval()(x))
        else:  # in float64 the written-out form takes gigabytes for more than 8 clouds
            off = difference(*(gradients(forms[form], x[:8], labels[:8]) for form in ("fast", "written out")))
        calls: dict[str, Callable[[], object]] = {
            form: (lambda m=model, x=x, labels=labels, what=what: call(m, x, labels, what))  # type: ignore[misc]
            for form, model in forms.items()
        }
        times = time_calls(calls, device, repeats=rounds, warmup=2)["fast"]
        text = f"{times.speedup:.2f}x ({times.speedup_low:.2f} to {times.speedup_high:.2f}), off by {off:.1e}"
        row: dict[str, Any] = {"speedup": times.speedup, "off": off}
        if memory:
            row["memory"] = {form: peak(form, model, what, x, labels) for form, model in forms.items()}
            text += f", {row['memory']['written out'] / max(1, row['memory']['fast']):.1f} times less memory"
        yield f"DGCNN {what}, batch {batch}: {text}", row


def mode_rows(device: torch.device, *, repeats: int = 50) -> Iterator[Row]:
    """On a GPU: forward times of both forms in every mode."""
    fast = network().to(device).eval()
    forms = {"written out": written_out(fast), "fast": fast}
    for mode, batch in itertools.product(("eager", "cuda_graph", "compiled"), (32, 1)):
        x = torch.randn(batch, 3, POINTS, device=device)
        times = forward_times(forms, x, mode=mode, repeats=repeats)["fast"]
        text = f"{times.median * 1e3:.3f} ms, {times.speedup:.2f}x"
        row = {"ms": times.median * 1e3, "speedup": times.speedup}
        yield f"DGCNN {mode}, batch {batch}, beside its written-out form: {text}", row


def precision_rows(device: torch.device, *, clouds: int = 64, points: int = 512) -> Iterator[Row]:
    """How far the logits of dgcnn.shapes move when the network runs in other ways."""
    model = zoo.get("dgcnn.shapes").to(device)
    test = datasets.load("shapes", "test", points=points)
    x = torch.cat([x for x, _ in batches(test, list(batch_indices(clouds, clouds)), device=device)])

    def autocast(dtype: torch.dtype) -> Tensor:
        with torch.autocast(device.type, dtype=dtype):
            return model(x)

    ways: dict[str, Callable[[], Tensor]] = {
        "autocast bfloat16": lambda: autocast(torch.bfloat16),
        "exported": lambda: torch.export.export(model, (x,)).module()(x),
        "compiled": lambda: torch.compile(model, fullgraph=True, dynamic=False)(x),
    }
    with torch.no_grad():
        truth = model(x)
        for name, way in ways.items():
            y = way()
            off, same = difference(y, truth), int((y.argmax(1) == truth.argmax(1)).sum())
            text = f"dgcnn.shapes, {name}: logits off by {off:.1e}, same answer for {same} of {clouds} clouds"
            yield text, {"off": off, "same": same}


@click.command()
@click.option("--device", default="cpu")
@click.option("--rounds", default=9)
def main(device: str, rounds: int) -> None:
    keep_freed_memory()
    where = torch.device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise click.UsageError("There is no CUDA GPU here: leave out --device.")
    for text, _ in form_rows(where, rounds=rounds, sizes=(8, 1) if where.type == "cpu" else (32, 1)):
        click.echo(text)
    large = torch.empty(1, 3, 16384, device=where)
    used = peak("fast", network().to(where), "forward", large, large.new_zeros(1, dtype=torch.int64))
    click.echo(f"forward, 16384 points, batch 1: {used / 2**20:.0f} MiB at most")
    for text, _ in itertools.chain(precision_rows(where), mode_rows(where) if where.type == "cuda" else ()):
        click.echo(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--probe"]:
        probe(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main()
