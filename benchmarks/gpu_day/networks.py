"""DGCNN beside the authors' form, and every network as a CUDA graph against the same in eager mode; networks.jsonl."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import dgcnn
import torch
from dgcnn import Row

from gpu_day.common import Recorder, device_for, step_options
from zoo import models
from zoo.evaluate import prepare_call

TOLERANCE = 1e-4  # relative difference of logits in float32


def graph_row(arch: str, device: torch.device, batch: int, points: int) -> Iterator[Row]:
    """The output of a replayed graph, for inputs that came after its capture, against that in eager mode."""
    torch.manual_seed(0)
    model = models.build(arch, num_classes=10).to(device).eval()
    shape = (3, points) if arch in ("dgcnn", "pointnet", "pointnet2") else (3, 64, 64)
    x, after = torch.randn(2, batch, *shape, device=device)
    with torch.inference_mode():
        replay = prepare_call(model, x, "cuda_graph" if device.type == "cuda" else "eager")
        x.copy_(after)
        off = dgcnn.difference(replay(), model(x))
    verdict = "equal" if off <= TOLERANCE else "WRONG"
    yield f"{arch} as a CUDA graph, batch {batch}: off by {off:.1e}: {verdict}", {"off": off}


@click.command()
@step_options
def main(out: Path, scale: float, device: str | None, seconds: float) -> None:
    where = device_for(device, scale)
    record = Recorder(out / "networks.jsonl", seconds, scale)
    sizes, points = ((32, 1), dgcnn.POINTS) if scale == 1 else ((2,), max(32, int(dgcnn.POINTS * scale)))
    parts = {
        f"{arch} as a CUDA graph": graph_row(arch, where, 8 if scale == 1 else 2, points)
        for arch in models.ARCHS if arch != "mlp"
    }  # fmt: skip
    parts["DGCNN's forms"] = dgcnn.form_rows(where, rounds=max(2, int(15 * scale)), sizes=sizes, points=points,
                                             memory=scale == 1)  # fmt: skip
    if where.type == "cuda":
        parts["DGCNN's modes"] = dgcnn.mode_rows(where, repeats=max(2, int(50 * scale)))
    parts["DGCNN's precisions"] = dgcnn.precision_rows(
        where, clouds=max(2, int(64 * scale)), points=max(32, points // 2)
    )
    for name, rows in parts.items():
        with record.measuring(name):
            for text, fields in rows:
                record(text, **fields)
    raise SystemExit(record.failures > 0)
