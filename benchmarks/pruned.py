"""Speed-up of the forward pass of networks pruned at several eps, in every mode that the device has.

    python benchmarks/pruned.py [NAME] [--eps 0.02,0.05,0.1] [--device cuda] [--json results.json]

NAME is an entry of the zoo, `dgcnn.shapes` unless given. It is pruned at each eps by the combined method on 128 samples
drawn by seed 0 (256 images), and timed beside the dense network in the same run, interleaved: batch 1 and 32, eager,
compiled and, on a GPU, as a CUDA graph. Milliseconds are printed for a GPU only.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
import torch
from experiment import EXACT

import zoo
from zoo.errors import ZooError
from zoo.evaluate import count, device_name, forward_times
from zoo.prune import Options, prune
from zoo.utils import keep_freed_memory
from zoo.workflows import DataSpec, draw


@click.command()
@click.argument("name", default="dgcnn.shapes")
@click.option("--eps", default="0.02,0.05,0.1")
@click.option("--device", default="cpu")
@click.option("--data-dir", type=click.Path(path_type=Path))
@click.option("--repeats", default=20)
@click.option("--modes", default=None, help="eager,compiled,cuda_graph")
@click.option("--json", "to", type=click.Path(path_type=Path))
def main(name: str, eps: str, device: str, data_dir: Path | None, repeats: int, modes: str | None, to: Path | None,
         ) -> None:  # fmt: skip
    keep_freed_memory()
    target = torch.device(device)
    train = DataSpec.of(zoo.info(name), DataSpec(data_dir=data_dir)).load("train")
    shape = train.sample_shape
    x, y = draw(train, 256, 0)
    dense = zoo.get(name).to(target)
    networks = {"dense": dense}
    for value in eps.split(","):
        data, options = (x.to(target), y.to(target)), Options(search=EXACT)
        networks[f"eps {value}"], _ = prune(dense, data, eps=float(value), method="combined", options=options)
    macs = {key: count(model, shape).macs for key, model in networks.items()}
    rows = []
    timed_modes = modes.split(",") if modes else ["eager", "compiled"] + ["cuda_graph"] * (target.type == "cuda")
    click.echo(f"{name}, {device_name(target)}, torch {torch.__version__}")
    for batch in (1, 32):
        inputs = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0)).to(target)
        for mode in timed_modes:
            torch.compiler.reset()  # or the compiler gives up on one network after eight shapes and networks
            try:
                times = forward_times(networks, inputs, mode=mode, repeats=repeats, warmup=3)
            except (RuntimeError, ZooError) as error:  # a compiler's, say; the other modes are timed all the same
                click.echo(f"batch {batch:>2}, {mode}: not timed, {error}", err=True)
                continue
            for key, t in times.items():
                rows.append({"network": key, "batch": batch, "mode": mode, "macs": macs[key], **asdict(t)})
                ms = f", {t.median * 1e3:.3f} ms" if target.type == "cuda" else ""
                click.echo(f"batch {batch:>2}, {mode:<10} {key:<9} {macs[key] / 1e6:7.1f}M MACs "
                           f"{t.speedup:.2f}x ({t.speedup_low:.2f} to {t.speedup_high:.2f}){ms}")  # fmt: skip
            if to is not None:  # after every row: whatever ends the run, those are there
                to.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
