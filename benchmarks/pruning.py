"""How long pruning takes: seconds, peak memory, and what was kept.

    python benchmarks/pruning.py mobilenet_v2 --weights FILE --data DIR --methods local,combined
    python benchmarks/pruning.py resnet34 --weights FILE --dataset imagenette --data DIR --methods local

FILE is a safetensors file that fits the network; the pruning images are drawn from the training split by seed 0. The
time is that of `zoo.prune.prune`, the images being in memory. Each method runs `--rounds` times in a process of its
own, so that peak memory is its own; it is the process's, libraries and images included.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
import torch

from zoo import checkpoint, datasets
from zoo.evaluate import batches, consecutive, count
from zoo.models import build
from zoo.prune import Options, Search, prune
from zoo.utils import keep_freed_memory


def samples(dataset: str, data: Path, size: int, images: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    extra = {"mean": (0.5,) * 3, "std": (0.5,) * 3} if dataset == "imagenet" else {}
    train = datasets.load(dataset, "train", data_dir=data, size=size, **extra)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:images].tolist()
    chosen = [[order[i] for i in batch] for batch in consecutive(images, 64)]
    parts = list(batches(train, chosen, device=torch.device("cpu")))
    classes = 1000 if dataset == "imagenet" else train.num_classes  # a folder may hold a part of ImageNet's classes
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts]), classes


def measure(arch: str, method: str, weights: Path, dataset: str, data: Path, size: int, images: int, eps: float,
            positions: float, slack: float, look_precision: str, device: str) -> dict[str, object]:  # fmt: skip
    keep_freed_memory()
    x, y, classes = samples(dataset, data, size, images)
    state = checkpoint.read_state(weights)
    model = build(arch, num_classes=classes)
    checkpoint.load_weights(model, state, source=str(weights))
    model = model.eval().to(device)
    started = time.perf_counter()
    options = Options(search=Search(position_fraction=positions, eps_tolerance=slack, eval_dtype=look_precision))
    small, report = prune(model, (x.to(device), y.to(device)), eps=eps, method=method, options=options)
    seconds = time.perf_counter() - started
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    shape = tuple(x.shape[1:])
    return {"arch": arch, "method": method, "images": images, "eps": eps, "positions": positions, "slack": slack,
            "look_precision": look_precision, "device": device, "seconds": seconds, "peak_bytes": peak,
            "macs": count(model, shape).macs, "macs_after": count(small, shape).macs,
            "report": report.to_dict()}  # fmt: skip


@click.command()
@click.argument("arch")
@click.option("--weights", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--dataset", default="imagenet")
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--size", default=224)
@click.option("--images", default=256)
@click.option("--eps", default=0.02)
@click.option("--positions", default=1.0)
@click.option("--slack", default=0.0)
@click.option("--look-precision", default="float32")
@click.option("--device", default="cpu")
@click.option("--methods", default="local,combined")
@click.option("--rounds", default=1)
@click.option("--out", type=click.Path(path_type=Path), help="Append each run as a line of JSON.")
@click.option("--one", hidden=True, is_flag=True)
def main(methods: str, rounds: int, out: Path | None, one: bool, **given: object) -> None:
    if one:
        click.echo(json.dumps(measure(method=methods, **given)))  # type: ignore[arg-type]
        return
    for method in methods.split(","):
        runs = []
        for _ in range(rounds):
            words = [str(given["arch"])]
            for name, value in given.items():
                words += [] if name == "arch" else [f"--{name.replace('_', '-')}", str(value)]
            command = [sys.executable, __file__, *words, "--methods", method, "--one"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise click.ClickException(done.stderr[-1000:])
            runs.append(json.loads(done.stdout))
            if out is not None:
                with open(out, "a") as file:
                    file.write(done.stdout)
        seconds = [run["seconds"] for run in runs]
        last = runs[-1]
        click.echo(f"{given['arch']}, {method}, {given['images']} images: {statistics.median(seconds):.0f} s "
                   f"({min(seconds):.0f} to {max(seconds):.0f}, {rounds} runs), peak {last['peak_bytes'] / 2**30:.2f} "
                   f"GiB, {last['macs'] / 1e6:.1f}M > {last['macs_after'] / 1e6:.1f}M MACs")  # fmt: skip


if __name__ == "__main__":
    main()
