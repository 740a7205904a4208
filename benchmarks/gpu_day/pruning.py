"""Pruning on the GPU beside the same on the CPU: the widths, how far the logits are off, and seconds; pruning.jsonl.

`dgcnn.shapes` is pruned on the same samples with the same seed. Both compute in float32, but sums round differently, so
a group may differ by a neuron where two choices tie up to rounding: widths are printed side by side.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch

import zoo
from gpu_day.common import Recorder, device_for, step_options
from zoo.evaluate import device_name
from zoo.models import widths_of
from zoo.prune import Budget, prune
from zoo.workflows import DataSpec, draw

RUNS: Mapping[str, Mapping[str, Any]] = {
    "repaired, half of the MACs": {"method": "repaired", "budget": Budget(macs=0.5)},
    "taylor, half of the MACs": {"method": "taylor", "budget": Budget(macs=0.5)},
    "local, eps 0.1": {"method": "local", "eps": 0.1},
    "combined, eps 0.1": {"method": "combined", "eps": 0.1},
}
SAMPLES = 128


@click.command()
@step_options
def main(out: Path, scale: float, device: str | None, seconds: float) -> None:
    where = device_for(device, scale)
    record = Recorder(out / "pruning.jsonl", seconds, scale)
    data = DataSpec.of(zoo.info("dgcnn.shapes"), DataSpec(points=None if scale == 1 else 32)).load("train")
    x, y = draw(data, max(8, int(SAMPLES * scale)), 0)
    dense = zoo.get("dgcnn.shapes")
    with torch.inference_mode():  # kernels are compiled and chosen here, not while pruning is timed
        dense.to(where)(x.to(where))
    for name, options in list(RUNS.items())[: None if scale == 1 else 2]:
        with record.measuring(name):
            networks, widths, spent = [], [], []
            for place in (where, torch.device("cpu")):
                began = time.monotonic()
                network, _ = prune(dense.to(place), (x.to(place), y.to(place)), seed=0, **options)
                spent.append(time.monotonic() - began)
                networks.append(network.cpu().eval())
                widths.append(widths_of(network))
                record(f"{name}: {spent[-1]:.1f} s on {device_name(place)}, {widths[-1]}", seconds=spent[-1])
            with torch.inference_mode():
                a, b = (network(x) for network in networks)
            off = float((a - b).norm() / b.norm())
            differ = {group: (widths[0][group], n) for group, n in widths[1].items() if widths[0][group] != n}
            verdict = "the same widths" if not differ else f"OTHER widths (GPU, CPU): {differ}"
            record(f"{name}: {verdict}, logits off by {off:.1e}, {spent[1] / spent[0]:.1f} times as fast as the CPU",
                   differ=differ, off=off, speedup=spent[1] / spent[0])  # fmt: skip
    raise SystemExit(record.failures > 0)
