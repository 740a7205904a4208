"""Store an entry that is there in half precision, where that changes no decision on the validation part.

    python benchmarks/halve.py NAME [--data-dir DIR] [--folder DIR]

The entry is one of your own zoo, or of `--folder`. Its accuracy is measured again, of the network as it is then stored,
and its card's command gets the `--half` that makes it so from the beginning. What would change a decision stays as
it is (`zoo.half_precision`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from zoo import checkpoint, display, store
from zoo.cards import Accuracy, Card
from zoo.errors import ZooError
from zoo.half_precision import HalfPrecisionResult, round_to_float16
from zoo.utils import keep_freed_memory
from zoo.workflows import Data, choose_device, held_for_halving, measure, save_entry


def halve_entry(
    name: str, folder: Path, *, data_dir: Path | None, device: str | None = None
) -> tuple[Card, HalfPrecisionResult]:
    """Store an entry in half precision; return its new card and the result. Raises ZooError without entry or data."""
    card = store.read_card(folder / f"{name}.json")
    path = folder / card.saved.name
    store.verify_file(path, card)
    model = checkpoint.load(path, device=choose_device(device), card=card)
    data = Data.of(card, data_dir=data_dir)
    found = round_to_float16(model, held_for_halving(data), progress=True)
    if not found.float16:
        return card, found
    measured = measure(model, data.load("test"), progress=True).evaluation
    command = str(card.recipe["command"])
    command = command if "--half" in command.split() else f"{command} --half"
    card = replace(
        card,
        accuracy=Accuracy.of(data.judged_on, measured.correct, measured.total),
        cross_entropy=round(measured.cross_entropy, 6),
        recipe={**card.recipe, "half": True, "command": command},
    )
    return save_entry(model, card, folder, overwrite=True, float16=found.float16), found


@click.command()
@click.argument("name")
@click.option("--data-dir", type=click.Path(path_type=Path))
@click.option("--folder", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.option("--device")
def main(name: str, data_dir: Path | None, folder: Path | None, device: str | None) -> None:
    keep_freed_memory()
    folder = folder or store.user_dir()
    try:
        before = store.read_card(folder / f"{name}.json")
        card, found = halve_entry(name, folder, data_dir=data_dir, device=device)
    except ZooError as error:
        raise click.ClickException(str(error)) from error
    click.echo(found.sentence())
    if found.float16:
        rows = [("", "before", "now"), ("bytes", str(before.saved.size), str(card.saved.size))]
        counted = (f"{a.correct}/{a.total}" if a else "" for a in (before.accuracy, card.accuracy))
        click.echo(display.table([*rows, ("right", *counted)]))


if __name__ == "__main__":
    main()
