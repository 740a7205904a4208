"""The Triton kernels against plain torch, in DGCNN's sizes: equal or not, and which is faster; kernels.jsonl.

Exit code 1 says that a kernel is wrong or breaks: `gpu_day.sh run` then goes on without them (ZOO_TRITON=0). In use,
the faster implementation is chosen at run time for each size (`zoo.models.kernels.autotune`). Without a GPU the
kernels run in Triton's interpreter.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from gpu_day.common import Recorder, device_for, step_options

WIDTHS = (3, 64, 64, 128)  # channels that DGCNN searches in
OUTPUTS = (64, 64, 128, 256)  # channels of which it takes the maximum
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}


@click.command()
@step_options
def main(out: Path, scale: float, device: str | None, seconds: float) -> None:
    if device == "cpu" or (device is None and scale < 1):
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are imported
    import torch

    where = device_for(device, scale)
    record = Recorder(out / "kernels.jsonl", seconds, scale)
    batches, points, k = ((32, 1), 1024, 20) if scale == 1 else ((1,), max(32, int(1024 * scale)), 4)
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Any:
        return torch.randn(*shape, generator=generator).to(where)

    for batch in batches:
        for channels in dict.fromkeys(WIDTHS if scale == 1 else WIDTHS[:2]):
            with record.measuring(f"search, batch {batch}, {channels} channels"):
                search(random(batch, channels, points), k, record)
        for width in dict.fromkeys(OUTPUTS if scale == 1 else OUTPUTS[:1]):
            for dtype in ("float32", "bfloat16"):
                with record.measuring(f"maximum, batch {batch}, {width} channels, {dtype}"):
                    P = batch * points
                    rows = torch.randint(0, P, (P, k), generator=generator).to(where)
                    neighbour, centre = (random(P, width).to(getattr(torch, dtype)) for _ in range(2))
                    maximum(neighbour, centre, rows, random(width), random(width), record)
    sys.exit(record.failures > 0)


def search(x: Any, k: int, record: Recorder) -> None:
    """x (B, C, N): the distances of the neighbours that each implementation finds, against those in float64."""
    from zoo.models import knn_implementations

    exact = x.double()
    implementations = knn_implementations(x, k)
    size = exact.square().sum(1).amax()

    def distances(index: Any) -> Any:  # (B, N, k), sorted: cloud by cloud, which keeps N x N float64 numbers small
        found = [
            (cloud.T.unsqueeze(1) - cloud.T[rows]).square().sum(2) for cloud, rows in zip(exact, index, strict=True)
        ]
        return [each.sort(1).values for each in found]

    truth = [(c.square().sum(0)[:, None] + c.square().sum(0) - 2 * c.T @ c).sort(1).values[:, :k] for c in exact]
    errors = {
        name: max(float((a - b).abs().amax() / size) for a, b in zip(distances(call()), truth, strict=True))
        for name, call in implementations.items()
    }
    _compare(f"search {tuple(x.shape)}, k {k}", implementations, errors, TOLERANCE["float32"], x.device, record)


def maximum(neighbour: Any, centre: Any, rows: Any, gain: Any, shift: Any, record: Recorder) -> None:
    """neighbour, centre (P, O), rows (P, k): the layer's output, against that in float64 by their relative distance."""
    import torch.nn.functional as F

    from zoo.models import edge_max_implementations

    edges = neighbour.double()[rows.flatten()].view(*rows.shape, -1).amax(1) + centre.double()
    truth = F.leaky_relu(gain.double() * edges + shift.double(), 0.2)
    dtype = str(neighbour.dtype).removeprefix("torch.")
    implementations = edge_max_implementations(neighbour, centre, rows, gain, shift, 0.2)
    errors = {name: float((call().double() - truth).norm() / truth.norm()) for name, call in implementations.items()}
    name = f"maximum {tuple(neighbour.shape)}, k {rows.shape[1]}, {dtype}"
    _compare(name, implementations, errors, TOLERANCE[dtype], neighbour.device, record)


def _compare(
    name: str, implementations: Mapping[str, Callable[[], Any]], errors: Mapping[str, float], tolerance: float,
    device: Any, record: Recorder,
) -> None:  # fmt: skip
    from zoo.evaluate import time_calls

    repeats = 50 if device.type == "cuda" else 1
    times = time_calls(implementations, device, repeats=repeats, warmup=repeats // 5)
    fastest = min(times, key=lambda key: times[key].median)
    wrong = [key for key, error in errors.items() if not error <= tolerance]  # NaN is wrong
    cells = [
        f"{key} {times[key].median * 1e3:.3f} ms ({times[key].speedup:.2f}x, off by {errors[key]:.1e})" for key in times
    ]
    verdict = f"WRONG: {', '.join(wrong)}" if wrong else f"{fastest} wins"
    record(f"{name}: {'; '.join(cells)}: {verdict}", kernel=name, fastest=fastest, wrong=wrong,
           ms={key: times[key].median * 1e3 for key in times}, error=dict(errors))  # fmt: skip
    record.failures += bool(wrong)
