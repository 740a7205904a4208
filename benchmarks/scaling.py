"""How the cost of a group grows with its neurons and with the images.

    python benchmarks/scaling.py

A group of N neurons is the hidden layer of a two-layer network on random, correlated inputs, 49 rows an image, as a 7
x 7 map has; "statistics" is the pass over the data that computes G, "path" the greedy search over every n, "refine"
the convex weights at one n. The exponent is the slope of log seconds against log size over the larger half of the
sizes, where the fixed cost no longer counts.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import click
import torch

from zoo.models import groups_of, mlp
from zoo.prune.search import local_imitation, refined_weights
from zoo.prune.statistics import gram_matrix
from zoo.timing import interleaved_seconds
from zoo.utils import keep_freed_memory

SIZES = [64, 128, 256, 512, 1024, 2048, 4096]
POSITIONS = 49


def seconds(call: Callable[[], object], rounds: int) -> float:
    """The median seconds of a call over some rounds."""
    return statistics.median(interleaved_seconds({"call": call}, torch.device("cpu"), repeats=rounds, warmup=1)["call"])


def exponent(sizes: list[int], times: list[float]) -> float:
    """Least-squares slope of log seconds against log size over the larger half."""
    half = len(sizes) // 2
    return statistics.linear_regression([math.log(n) for n in sizes[half:]], [math.log(t) for t in times[half:]]).slope


@click.command()
@click.option("--rounds", default=3)
@click.option("--json", "to", type=click.Path(path_type=Path))
def main(rounds: int, to: Path | None) -> None:
    keep_freed_memory()
    torch.manual_seed(0)
    columns: dict[str, list[float]] = {"statistics": [], "path": [], "refine": []}
    for N in SIZES:
        model = mlp(in_features=64, num_classes=64, widths={"hidden1": N, "hidden2": 64}).eval()
        group, x = groups_of(model)[0], torch.randn(256 * POSITIONS, 64)
        columns["statistics"].append(seconds(lambda: gram_matrix(group, [lambda: model(x)]), rounds))  # noqa: B023
        G, _ = gram_matrix(group, [lambda: model(x)])  # noqa: B023
        columns["path"].append(seconds(lambda: local_imitation(G), 1 if N > 1024 else rounds))  # noqa: B023
        unrefined = local_imitation(G, refine=False).scale(3 * N // 4)
        columns["refine"].append(seconds(lambda: refined_weights(G, unrefined), rounds))  # noqa: B023
        click.echo(f"{N:>5} neurons, 256 images: "
                   + ", ".join(f"{name} {times[-1]:.4f} s" for name, times in columns.items()))  # fmt: skip
    model = mlp(in_features=64, num_classes=64, widths={"hidden1": 1024, "hidden2": 64}).eval()
    group, images = groups_of(model)[0], []
    for M in SIZES:
        x = torch.randn(M * POSITIONS, 64)
        images.append(seconds(lambda: gram_matrix(group, [lambda: model(x)]), rounds))  # noqa: B023
        click.echo(f" 1024 neurons, {M:>4} images: statistics {images[-1]:.4f} s")
    rows = {f"{name}, neurons": exponent(SIZES, times) for name, times in columns.items()}
    rows["statistics, images"] = exponent(SIZES, images)
    for name, value in rows.items():
        click.echo(f"{name}: seconds grow as the size to the {value:.2f}")
    if to is not None:
        to.write_text(json.dumps({"sizes": SIZES, **columns, "images": images, "exponents": rows}, indent=2))


if __name__ == "__main__":
    main()
