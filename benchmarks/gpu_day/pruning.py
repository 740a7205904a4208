"""Pruning on the GPU beside the same on the CPU: the widths, how far the logits are off, and seconds; pruning.jsonl.

`dgcnn.shapes` is pruned on the same samples with the same seed. Both compute in float32, but sums round differently, so
a group may differ by a neuron where two choices tie up to rounding: widths are printed side by side.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

import zoo
from gpu_day.common import Recorder, device_for, step_options
from zoo.evaluate import device_name
from zoo.models import widths_of
from zoo.prune import Budget, Options, Search, prune
from zoo.workflows import DataSpec, draw

RUNS: Mapping[str, Mapping[str, Any]] = {
    "taylor, half of the MACs": {"method": "taylor", "budget": Budget(macs=0.5)},
    "repaired, half of the MACs": {"method": "repaired", "budget": Budget(macs=0.5)},
    "local, eps 0.1": {"method": "local", "eps": 0.1},
    "combined, eps 0.1": {"method": "combined", "eps": 0.1},
}
SMALL_RUNS = {
    "taylor, half of the MACs": RUNS["taylor, half of the MACs"],
    "combined, edge1, eps 0.1": {**RUNS["combined, eps 0.1"], "groups": ["edge1"]},
}
SAMPLES = 128
# All samples choose and judge, and any width is allowed: a choice that the devices make otherwise shows.
OPTIONS = Options(search=Search(holdout=0.0, round_to=1))


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
    runs = RUNS if scale == 1 else SMALL_RUNS
    results: dict[str, tuple[nn.Module, float]] = {}
    for place, name in itertools.product((where, torch.device("cpu")), runs):  # the CPU comes last: it takes longest
        with record.measuring(f"{name} on {place.type}"):
            began = time.monotonic()
            network, _ = prune(dense.to(place), (x.to(place), y.to(place)), seed=0, options=OPTIONS, **runs[name])
            spent, network = time.monotonic() - began, network.cpu().eval()
            widths = widths_of(network)
            record(f"{name}: {spent:.1f} s on {device_name(place)}, {widths}", pruning=name, seconds=spent)
            if name not in results:
                results[name] = network, spent
                continue
            other, faster = results[name][0], spent / results[name][1]
            with torch.inference_mode():
                off = float((other(x) - network(x)).norm() / network(x).norm())
            differ = {group: (n, widths[group]) for group, n in widths_of(other).items() if n != widths[group]}
            verdict = "the same widths" if not differ else f"OTHER widths (GPU, CPU): {differ}"
            text = f"{name}: {verdict}, logits off by {off:.1e}, {faster:.1f} times as fast as the CPU"
            record(text, pruning=name, differ=differ, off=off, speedup=faster)
    raise SystemExit(record.failures > 0)
