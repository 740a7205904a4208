"""The MACs of the dense network with a width multiplier: what a pruned one may cost at most.

python benchmarks/dense_macs.py dgcnn 0.75 --classes 10 --shape 3,512
"""

from __future__ import annotations

import click

from zoo import models
from zoo.evaluate import count


@click.command()
@click.argument("arch")
@click.argument("multipliers", type=float, nargs=-1, required=True)
@click.option("--classes", type=int, required=True)
@click.option("--shape", required=True, help="Of one sample: 3,512 for a cloud.")
def main(arch: str, multipliers: tuple[float, ...], classes: int, shape: str) -> None:
    for multiplier in multipliers:
        widths = models.scaled_widths(arch, multiplier, num_classes=classes)
        model = models.build(arch, num_classes=classes, widths=widths)
        click.echo(count(model, tuple(int(n) for n in shape.split(","))).macs)


if __name__ == "__main__":
    main()
