"""`zoo predict`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from zoo.cli.options import DEVICE, JSON, MIRROR, plugins_loaded
from zoo.cli.params import PATH, entry_names


@click.command()
@click.argument("entry", metavar="NAME", shell_complete=entry_names)
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FILE...")
@click.option("--top", type=click.IntRange(1), default=3, show_default=True, help="Classes for each file.")
@click.option("--dataset", help="What NAME was trained on, where a converted file does not say it.")
@MIRROR
@DEVICE
@JSON
def predict(
    entry: str, files: tuple[Path, ...], top: int, dataset: str | None, mirror: tuple[str, ...], device: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Print the most probable classes of files by the network of the entry NAME, one line a file.

    Files are images (PNG, JPEG, WebP, TIFF, BMP), meshes (OFF, PLY, OBJ, STL) or clouds (PLY, XYZ, TXT, NPY, NPZ),
    prepared as the samples that the entry's accuracy was counted on; axes are those of the file. A file that cannot be
    read is named, and the exit status is 1.
    """
    with plugins_loaded():
        from zoo.workflows import predict_files

        result = predict_files(entry, files, top=top, device=device, dataset=dataset, mirror=mirror or None)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    elif result.guesses:
        click.echo(result.table())
    if result.errors:
        for error in result.errors.values():
            click.echo(f"Error: {error}", err=True)
        raise click.exceptions.Exit(1)
