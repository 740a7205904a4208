"""Beside Torch-Pruning (pip install torch-pruning): the same network, the same images, the same MACs.

    python benchmarks/beside_torch_pruning.py --data DIR --weights DIR --out results.jsonl

MobileNetV2 with ImageNet weights, 256 images of the training folder, no fine-tuning, top-1 on the validation folder.
Ours runs first, at eps; Torch-Pruning then gets the pruning ratio, the same for all layers, whose network has the MACs
closest to ours from below. It runs as it comes: magnitude and Taylor importance by groups, the classifier left alone.
Each run is a process of its own; the time is that of pruning, of Torch-Pruning at the final ratio.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import click
import torch
from imagenet import load
from safetensors.torch import load_file
from theirs import at_ratio, ratio_for

from zoo.evaluate import batches, consecutive, count, evaluate
from zoo.models import build
from zoo.prune import prune
from zoo.utils import keep_freed_memory

OURS, THEIRS = ("local", "combined"), ("magnitude", "taylor")
SHAPE = (3, 224, 224)


def run(method: str, data: Path, weights: Path, images: int, eps: float, macs: float) -> dict[str, object]:
    keep_freed_memory()
    train, test = load("train", data), load("test", data)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:images].tolist()
    parts = list(batches(train, [[order[i] for i in b] for b in consecutive(images, 64)], device=torch.device("cpu")))
    x, y = torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])
    model = build("mobilenet_v2")
    model.load_state_dict(load_file(weights / "mobilenet_v2.imagenet.safetensors"))
    model.eval()
    ratio = ratio_for(model, method, macs, x, y) if method in THEIRS else None
    begin = time.perf_counter()
    small = prune(model, (x, y), eps=eps, method=method)[0] if ratio is None else at_ratio(model, method, ratio, x, y)
    seconds = time.perf_counter() - begin
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    found, cost = evaluate(small.eval(), test), count(small, SHAPE)
    return {"method": method, "images": images, "seconds": seconds, "peak_bytes": peak, "macs": cost.macs,
            "parameters": cost.parameters, "correct": found.correct, "total": found.total,
            "cross_entropy": found.cross_entropy, "ratio": ratio}  # fmt: skip


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--weights", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--images", default=256)
@click.option("--eps", default=0.02)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--one", hidden=True)
@click.option("--macs", default=0.0, hidden=True)
def main(out: Path, one: str | None, **given: object) -> None:
    if one is not None:
        click.echo(json.dumps(run(one, **given)))  # type: ignore[arg-type]
        return
    for method in (*OURS, *THEIRS):
        words = [each for name, value in given.items() for each in (f"--{name}", str(value))]
        command = [sys.executable, __file__, *words, "--out", str(out), "--one", method]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(done.stderr[-1000:])
        row = json.loads(done.stdout.splitlines()[-1])
        if method == "local":
            given["macs"] = row["macs"]
        with open(out, "a") as file:
            file.write(json.dumps(row) + "\n")
        click.echo(f"{method}: {row['correct']}/{row['total']} at {row['macs'] / 1e6:.1f}M MACs, "
                   f"{row['seconds']:.0f} s, peak {row['peak_bytes'] / 2**30:.2f} GiB")  # fmt: skip


if __name__ == "__main__":
    main()
