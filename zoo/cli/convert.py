"""`zoo export` and `zoo convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli.options import JSON, plugins_loaded, print_result
from zoo.cli.params import PATH, entry_names, mirror_option


@click.command()
@click.argument("entry", metavar="NAME", shell_complete=entry_names)
@click.option("--format", required=True, help="onnx, torch.export or torchscript.")
@click.option("-o", "--out", type=PATH, help="The file [NAME and .onnx, .pt2, .torchscript.pt].")
@click.option("--points", type=int, help="Points of a cloud, fixed in the file [free where the network allows it].")
@click.option("--overwrite", is_flag=True, help="Replace a file of that name.")
@mirror_option("Folder, bundle, file://, http(s)://, hf://; may be repeated.")
@JSON
def export(entry: str, mirror: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Write the network of the entry NAME for other runtimes, for batches of any size.

    Networks for clouds take any number of points as well; those that cannot (PointNet++) take that of --points.

    The file gets its name after it was loaded again and gave the network's logits. ONNX needs
    pip install 'pruned-zoo[export]'.
    """
    from zoo.export_targets import check_export
    from zoo.workflows import find_card

    card = find_card(entry, mirror)
    target = check_export(options["format"], options["out"], overwrite=options["overwrite"])
    if card is not None and options["out"] is None:
        check_export(target.name, f"{card.name}{target.suffix}", overwrite=options["overwrite"])
    with plugins_loaded():
        from zoo.export import export as library

        print_result(library(entry, mirror=mirror or None, **options), as_json)


@click.command()
@click.argument("source", type=PATH, metavar="FILE")
@click.option("--arch", required=True, help="Which network the weights are of: dgcnn, resnet34...")
@click.option("-o", "--out", type=PATH, help="The checkpoint, OUT.safetensors.")
@click.option("--add", metavar="NAME", help="Put it into your zoo as the entry NAME.")
@click.option("--key", help="The key in FILE that the weights lie under, such as model or model_ema [found].")
@click.option("--dataset", help="What the weights were trained on, for zoo eval and others [the end of NAME].")
@click.option("--num-classes", type=int, help="The rows of the last layer otherwise.")
@click.option("--overwrite", is_flag=True, help="Replace a file or an entry of that name.")
@JSON
def convert(source: Path, as_json: bool, **options: Any) -> None:
    """Turn the weights in FILE into one of the zoo's checkpoints.

    FILE is what torch.save or safetensors wrote, whatever its ending (.pth, .pth.tar, .t7, .ckpt, .bin...), or the
    index of several. Nothing in it runs. Classes and widths are read off the shapes; every tensor must fit. The
    checkpoint is used like an entry: zoo eval ./OUT.safetensors --dataset modelnet40.
    """
    from zoo.workflows import check_convert

    check_convert(source, **options)
    with plugins_loaded():
        from zoo.convert import convert as library

        print_result(library(source, **options), as_json)
