"""What the pruning experiments share: data, networks with given weights, files of results, runs in own processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from torch import nn

from zoo import checkpoint, datasets
from zoo.models import build
from zoo.prune import Search

HALF = (0.5, 0.5, 0.5)  # mean and standard deviation of the inputs that the ImageNet weights were trained with
# The search that docs/results.md is of, unless it says otherwise: all samples choose and judge, any width is allowed.
EXACT = Search(holdout=0.0, round_to=1)


def load_data(dataset: str, split: str, data: Path, **form: Any) -> datasets.LabelledDataset:
    """One split of a data set in the folder `data`; `form` holds its size or its points, None for the usual one."""
    form = {key: value for key, value in form.items() if value is not None}
    if dataset == "imagenet":
        form |= {"mean": HALF, "std": HALF}
    return datasets.load(dataset, split, data_dir=data, **form)


def load_network(arch: str, weights: Path, train: datasets.LabelledDataset, dataset: str) -> nn.Module:
    """The network in eval mode, with the weights of a safetensors file that fits it."""
    classes = 1000 if dataset == "imagenet" else train.num_classes  # a folder may hold a part of ImageNet's classes
    model = build(arch, num_classes=classes)
    checkpoint.load_weights(model, checkpoint.read_state(weights), source=str(weights))
    return model.eval()


def peak_bytes() -> int:
    """The largest resident memory that this process has had, libraries included (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def run_alone(script: str, *words: str, **options: object) -> dict[str, Any]:
    """Run a script in a process of its own, so that its peak memory is its own, and return the JSON it prints last.

    Options of None are left out.
    """
    for option, value in options.items():
        words += (f"--{option.replace('_', '-')}", str(value)) if value is not None else ()
    done = subprocess.run([sys.executable, script, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{' '.join(words)} ended with exit code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def read_results(out: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines; none where there is no file yet."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def add_result(out: Path, row: Mapping[str, object]) -> None:
    """Append a row to a file of JSON lines."""
    with open(out, "a") as file:
        file.write(json.dumps(row) + "\n")
