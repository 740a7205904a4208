"""MobileNetV2 and MobileNetV3-small with ImageNet weights: every method at one eps, and at equal MACs.

    python benchmarks/imagenet.py --data DIR --weights DIR --out results.jsonl

DIR/data holds train/ and val/ class folders (the pruning images come from train/, the figures from val/), the weights
are safetensors under torchvision's names. One line of JSON is written per run as soon as it is done; a line that is
there already is not computed again. No fine-tuning. "Equal MACs" gives every method the widths that the combined
method found, so that only the choice of neurons differs.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from experiment import EXACT, add_result, load_data, load_network, read_results

from zoo.evaluate import count, evaluate
from zoo.prune import Options, Runtime, prune
from zoo.workflows import draw

METHODS = ("combined", "local", "global", "gfs", "l1")


def done(out: Path) -> dict[str, dict]:
    """The results so far by their keys."""
    return {row["key"]: row for row in read_results(out)}


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--weights", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--arch", default="mobilenet_v3_small")
@click.option("--eps", default=0.02)
@click.option("--images", default=128, help="Pruning images, drawn from train/ by the seed.")
@click.option("--batch-size", default=32)
@click.option("--gradient-reuse", default=0.25, help="Of the global search (zoo.prune.Search).")
@click.option("--methods", default=",".join(METHODS))
@click.option("--equal", is_flag=True, help="At the combined method's widths instead of at eps.")
@click.option("--refine/--no-refine", default=True, help="Let the weights of the kept neurons converge, or not.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def main(
    data: Path, weights: Path, arch: str, eps: float, images: int, batch_size: int, methods: str, equal: bool,
    out: Path, **search: Any,
) -> None:  # fmt: skip
    train, test = (load_data("imagenet", split, data, size=224) for split in ("train", "test"))
    samples = draw(train, images, 0)
    model = load_network(arch, weights / f"{arch}.imagenet.safetensors", train, "imagenet")

    def note(key: str, network: torch.nn.Module, **more: object) -> None:
        result, cost = evaluate(network.to(memory_format=torch.channels_last), test), count(network, (3, 224, 224))
        row = {
            "key": key, "correct": result.correct, "total": result.total, "low": result.low, "high": result.high,
            "cross_entropy": result.cross_entropy, "macs": cost.macs, "macs_paper": cost.macs_paper,
            "parameters": cost.parameters, **more,
        }  # fmt: skip
        add_result(out, row)
        click.echo(f"{key}: {result.correct}/{result.total} cross-entropy {result.cross_entropy:.3f}, "
                   f"{cost.macs / 1e6:.1f}M MACs, {more.get('seconds', 0):.0f} s")

    if f"{arch} dense" not in done(out):
        note(f"{arch} dense", model)
    for method in methods.split(","):
        key = f"{arch} {method} {'equal' if equal else eps}{'' if search['refine'] else ' hurried'}"
        if key in done(out):
            continue
        goal = {"widths": done(out)[f"{arch} combined {eps}"]["widths"]} if equal else {"eps": eps}
        started = time.perf_counter()
        journal = out.with_suffix(f".{key.replace(' ', '-')}.journal")
        options = Options(batch_size=batch_size, search=replace(EXACT, **search))
        runtime = Runtime(resume_file=journal)
        small, report = prune(model, samples, method=method, options=options, runtime=runtime, **goal)
        note(key, small, widths=small.widths, seconds=time.perf_counter() - started, images=images,
             report=report.to_dict())


if __name__ == "__main__":
    main()
