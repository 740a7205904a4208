"""Forward times that `gpu_day.sh run` or `forward` measured, here or on another machine, onto the cards of this clone.

    bash benchmarks/gpu_day.sh merge RESULTS... [--cards DIR]...

RESULTS are files forward.jsonl, or folders that hold one. A line counts for the entry of its name if the checkpoints
here, its own and its parent's, have the SHA-256 that was timed. A record takes the place of the one of the same device,
batch, dtype and mode on the card. Then `python benchmarks/readme_table.py` renews the tables of the README.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path

import click
from card_times import default_folders, entries

from zoo import store
from zoo.cards import Card, Forward
from zoo.errors import ZooError
from zoo.utils import new_file

FIELDS = [field.name for field in fields(Forward)]


def setting(forward: Forward) -> tuple[str, int, str, str]:
    """What a card has one record of: device, batch, dtype and mode."""
    return forward.device, forward.batch, forward.dtype, forward.mode


def merged(card: Card, forward: Forward) -> Card:
    """The card with the record in the place of the one of the same setting, or as the last.

    A record that was timed beside the parent is not replaced by one that was timed alone.
    """
    records = list(card.forward)
    index = next((i for i, record in enumerate(records) if setting(record) == setting(forward)), len(records))
    if index < len(records) and records[index].ratio is not None and forward.ratio is None:
        return card
    records[index:] = [forward, *(record for record in records[index:] if setting(record) != setting(forward))]
    return replace(card, forward=tuple(records))


def write(card: Card, forward: Forward, folders: Iterable[Path]) -> list[Path]:
    """Put the record onto the entry's card in each folder that has this checkpoint; returns the files of the cards."""
    written = []
    for folder in folders:
        path = folder / f"{card.name}.json"
        if path.is_file() and (current := store.read_card(path)).saved.sha256 == card.saved.sha256:
            with new_file(path) as out:
                out.write(merged(current, forward).to_json().encode())
            written.append(path)
    return written


def records(file: Path) -> Iterator[tuple[dict[str, str], Forward]]:
    """For every line that is no failure: names and SHA-256 of the entry and its parent, and the record.

    Raises ZooError for a line that `gpu_day.sh forward` did not write, or wrote in a rehearsal; the last may be cut.
    """
    lines = file.read_text(encoding="utf-8").splitlines()
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            if "scale" in line:
                raise ZooError(f"{file} is of a rehearsal, --scale {line['scale']}: its figures stand on no card")
            if "failed" not in line:
                checkpoints = {line["name"]: line["sha256"]}
                if line["parent"] is not None:
                    checkpoints[line["parent"]] = line["parent_sha256"]
                yield checkpoints, Forward(**{key: line[key] for key in FIELDS})
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise ZooError(f"{file}, line {number}, is no forward time: give a forward.jsonl") from error


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--cards", "folders", multiple=True, type=click.Path(file_okay=False, exists=True, path_type=Path),
              help="Folder of cards; may be repeated [shipped, your own, mirror/ here].")  # fmt: skip
def main(results: tuple[Path, ...], folders: tuple[Path, ...]) -> None:
    folders = folders or default_folders()
    counts: Counter[str] = Counter()
    try:
        cards, _ = entries(folders)
        for result in results:
            for checkpoints, forward in records(result / "forward.jsonl" if result.is_dir() else result):
                name = next(iter(checkpoints))
                same = all(cards[key].saved.sha256 == sha for key, sha in checkpoints.items() if key in cards)
                counts[name] += bool(name in cards and same and write(cards[name], forward, folders))
    except (ZooError, OSError) as error:
        raise click.ClickException(str(error)) from error
    for name, count in sorted(counts.items()):
        other = f"{name}: that checkpoint is not here, or another parent is"
        click.echo(f"{name}: {count} records" if count else other, err=not count)
