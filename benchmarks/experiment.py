"""What the pruning experiments share: a network with given weights and its data, files of results, runs in processes of
their own."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
from torch import Tensor, nn

from zoo import checkpoint, datasets
from zoo.evaluate import count, evaluate
from zoo.models import build
from zoo.prune import Search
from zoo.workflows import draw

HALF = (0.5, 0.5, 0.5)  # mean and standard deviation of the inputs that the ImageNet weights were trained with
# The search that docs/results.md is of, unless it says otherwise: all samples choose and judge, any width is allowed.
EXACT = Search(holdout=0.0, round_to=1)


@dataclass(frozen=True)
class Task:
    """A network to prune, and the data to prune and judge it on.

    arch, weights  the network, and a safetensors file that fits it
    dataset, data  the data set, and the folder that holds it
    size, points   of an image and of a cloud; None is the data set's usual
    images         the number of pruning samples, drawn from the training split by seed 0
    """

    arch: str
    weights: Path
    dataset: str
    data: Path | None
    size: int | None
    points: int | None
    images: int

    def load(self, split: str) -> datasets.LabelledDataset:
        """One split of the data set."""
        form: dict[str, Any] = {"data_dir": self.data, "size": self.size, "points": self.points}
        if self.dataset == "imagenet":
            form |= {"mean": HALF, "std": HALF}
        return datasets.load(
            self.dataset, split, **{key: value for key, value in form.items() if value is not None}
        )

    def samples(self) -> tuple[Tensor, Tensor]:
        """The inputs (M, ...) and labels (M,) to prune on."""
        return draw(self.load("train"), self.images, 0)

    def network(self) -> nn.Module:
        """The network in eval mode."""
        # A folder may hold a part of ImageNet's classes.
        classes = 1000 if self.dataset == "imagenet" else self.load("train").num_classes
        model = build(self.arch, num_classes=classes)
        checkpoint.load_weights(model, checkpoint.read_state(self.weights), source=str(self.weights))
        return model.eval()

    def judged(self, network: nn.Module) -> dict[str, Any]:
        """The right answers of a network on the test split, its cost and its widths."""
        test = self.load("test")
        peak, result, cost = peak_bytes(), evaluate(network.eval(), test), count(network, tuple(test.sample_shape))
        hits = "".join("1" if hit else "0" for hit in result.hits.tolist())
        return {
            "arch": self.arch, "images": self.images, "peak_bytes": peak, "correct": result.correct,
            "total": result.total, "low": result.low, "high": result.high, "cross_entropy": result.cross_entropy,
            "macs": cost.macs, "macs_paper": cost.macs_paper, "parameters": cost.parameters,
            "widths": dict(network.widths), "hits": hits,
        }  # fmt: skip


def task_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a `Task`, which it takes as its first argument."""

    @functools.wraps(command)
    def with_task(**options: Any) -> Any:
        return command(Task(**{field.name: options.pop(field.name) for field in fields(Task)}), **options)

    for option in (
        click.option("--images", default=256, show_default=True, help="Pruning samples."),
        click.option("--points", type=int),
        click.option("--size", type=int),
        click.option("--data", type=click.Path(path_type=Path, exists=True)),
        click.option("--dataset", default="imagenet", show_default=True),
        click.option("--weights", type=click.Path(path_type=Path, exists=True), required=True),
        click.argument("arch"),
    ):
        with_task = option(with_task)
    return with_task


def peak_bytes() -> int:
    """The largest resident memory that this process has had, libraries included (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def run_alone(**options: object) -> dict[str, Any]:
    """Run this command again, with these options in place of its own, in a process that runs nothing else, so that the
    peak memory is its own; returns the JSON that it prints last."""
    words = [*sys.argv, *(f"--{name.replace('_', '-')}={value}" for name, value in options.items())]
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{' '.join(words)} ended with exit code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def read_results(out: Path | None) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines; none where there is no file yet."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out is not None and out.exists() else []


def add_result(out: Path | None, row: Mapping[str, object]) -> None:
    """Append a row to a file of JSON lines, if one is named."""
    if out is not None:
        with open(out, "a") as file:
            file.write(json.dumps(row) + "\n")
