"""How far the logits of `dgcnn.shapes` move under torch.compile, torch.export and autocast.

    python benchmarks/modes.py [--device cuda]
"""

from __future__ import annotations

import click
import torch

import zoo
from zoo import datasets
from zoo.evaluate import batch_indices, batches


@click.command()
@click.option("--device", default="cpu")
def main(device: str) -> None:
    place = torch.device(device)
    model = zoo.get("dgcnn.shapes").to(place)
    test = datasets.load("shapes", "test", points=512)
    x = torch.cat([x for x, _ in batches(test, list(batch_indices(64, 64)), device=place)])

    def note(name: str, y: torch.Tensor) -> None:
        error = float((y.float() - truth).norm() / truth.norm())
        same = int((y.argmax(1) == truth.argmax(1)).sum())
        click.echo(f"{name}: relative error {error:.1e}, same answer for {same} of {len(x)} clouds")

    with torch.no_grad():
        truth = model(x)
        note("compiled", torch.compile(model, fullgraph=True, dynamic=False)(x))
        note("exported", torch.export.export(model, (x,)).module()(x))
        for dtype in (torch.bfloat16, *([torch.float16] if place.type == "cuda" else [])):
            with torch.autocast(place.type, dtype=dtype):
                note(f"autocast {str(dtype).removeprefix('torch.')}", model(x))
        if place.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = True
            note("tf32", model(x))


if __name__ == "__main__":
    main()
