"""How long pruning takes, how much memory, and how good the network is, beside Torch-Pruning at the same MACs.

    python benchmarks/pruning.py mobilenet_v2 --weights FILE --data DIR --methods local,combined,tp-magnitude,tp-taylor
    python benchmarks/pruning.py resnet34 --weights FILE --dataset imagenette --data DIR --methods local

FILE is a safetensors file that fits the network. The pruning images are drawn from the training split by seed 0, and
the network is evaluated on the test split without fine-tuning. Each run is a process of its own, so that its peak
memory is its own, and its seconds are those of pruning alone, with the images in memory. The methods tp-magnitude and
tp-taylor are Torch-Pruning (pip install torch-pruning) with its defaults: the same fraction of every layer, with as
many MACs as the first of our methods left; their seconds are those of pruning at that fraction.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import click
from experiment import EXACT, add_result, load_data, load_network, peak_bytes, run_alone
from torch_pruning_baseline import prune_at_ratio, ratio_for_macs

from zoo.evaluate import count, evaluate
from zoo.prune import Options, prune
from zoo.utils import keep_freed_memory
from zoo.workflows import draw

THEIRS = "tp-"  # begins the names of Torch-Pruning's importances


def run_once(
    arch: str, method: str, macs: float, weights: Path, dataset: str, data: Path, size: int, images: int,
    eps: float, position_fraction: float, eps_tolerance: float, eval_dtype: str, device: str,
) -> dict[str, object]:  # fmt: skip
    """The result of pruning the network once."""
    keep_freed_memory()
    train, test = (load_data(dataset, split, data, size=size) for split in ("train", "test"))
    x, y = (samples.to(device) for samples in draw(train, images, 0))
    model = load_network(arch, weights, train, dataset).to(device)
    if method.startswith(THEIRS):
        importance = method.removeprefix(THEIRS)
        ratio = ratio_for_macs(model, importance, macs, x, y)
        started = time.perf_counter()
        small, report = prune_at_ratio(model, importance, ratio, x, y), {"ratio": ratio}
    else:
        settings = {"position_fraction": position_fraction, "eps_tolerance": eps_tolerance, "eval_dtype": eval_dtype}
        options = Options(search=replace(EXACT, **settings))
        started = time.perf_counter()
        small, pruned = prune(model, (x, y), eps=eps, method=method, options=options)
        report = pruned.to_dict()
    seconds, shape = time.perf_counter() - started, tuple(x.shape[1:])
    peak, result, cost = peak_bytes(), evaluate(small.eval(), test), count(small, shape)
    return {
        "arch": arch, "method": method, "images": images, "eps": eps, "position_fraction": position_fraction,
        "eps_tolerance": eps_tolerance, "eval_dtype": eval_dtype, "device": device, "seconds": seconds,
        "peak_bytes": peak, "macs": count(model, shape).macs, "macs_after": cost.macs, "parameters": cost.parameters,
        "correct": result.correct, "total": result.total, "cross_entropy": result.cross_entropy, "report": report,
    }  # fmt: skip


@click.command()
@click.argument("arch")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--dataset", default="imagenet")
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--size", default=224)
@click.option("--images", default=256)
@click.option("--eps", default=0.02)
@click.option("--position-fraction", default=1.0)
@click.option("--eps-tolerance", default=0.0)
@click.option("--eval-dtype", default="float32")
@click.option("--device", default="cpu")
@click.option("--methods", default="local,combined")
@click.option("--rounds", default=1)
@click.option("--out", type=click.Path(path_type=Path), help="Append each run as a line of JSON.")
@click.option("--alone", hidden=True, help="The method that this process runs.")
@click.option("--macs", default=0.0, hidden=True)
def main(
    arch: str, methods: str, rounds: int, out: Path | None, alone: str | None, macs: float, **options: object
) -> None:  # fmt: skip
    if alone is not None:
        click.echo(json.dumps(run_once(arch, alone, macs, **options)))  # type: ignore[arg-type]
        return
    for method in methods.split(","):
        if method.startswith(THEIRS) and not macs:
            raise click.UsageError("Torch-Pruning's methods come after one of ours, whose MACs they get")
        runs = [run_alone(__file__, arch, alone=method, macs=macs, **options) for _ in range(rounds)]
        for run in runs if out is not None else []:
            add_result(out, run)
        seconds, last = [run["seconds"] for run in runs], runs[-1]
        macs = macs or last["macs_after"]
        click.echo(f"{arch}, {method}, {options['images']} images: {statistics.median(seconds):.0f} s "
                   f"({min(seconds):.0f} to {max(seconds):.0f}, {rounds} runs), peak {last['peak_bytes'] / 2**30:.2f} "
                   f"GiB, {last['macs'] / 1e6:.1f}M > {last['macs_after'] / 1e6:.1f}M MACs, "
                   f"{last['correct']}/{last['total']} right")  # fmt: skip


if __name__ == "__main__":
    main()
