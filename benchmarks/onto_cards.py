"""Put forward times that another machine measured onto the cards of this clone.

    python benchmarks/onto_cards.py results/zoo_times.jsonl [--cards DIR]...

The file is what `benchmarks/gpu.sh` wrote there. A line counts for the entry of its name if the checkpoints here, its
own and its parent's, have the SHA-256 that was timed; it takes the place of the same setting on the card, as if it had
been measured here. Then `python benchmarks/readme_table.py` renews the tables of the README.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
from card_times import default_folders, entries, write

from zoo.cards import Forward
from zoo.errors import ZooError

FIELDS = [each.name for each in fields(Forward)]


def records(file: Path) -> Iterator[tuple[dict[str, str], Forward]]:
    """Names and SHA-256 of the entry and its parent, by name, and the record, of every line that is no failure.

    Raises ZooError for a line that is none of zoo_times.py's; the last may be cut off.
    """
    lines = file.read_text(encoding="utf-8").splitlines()
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            if "failed" not in line:
                timed = {line["name"]: line["sha256"]}
                if line["parent"] is not None:
                    timed[line["parent"]] = line["parent_sha256"]
                yield timed, Forward(**{key: line[key] for key in FIELDS})
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise ZooError(f"{file}, line {number}, is no forward time: give what gpu.sh wrote") from error


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--cards", "folders", multiple=True, type=click.Path(file_okay=False, exists=True, path_type=Path),
              help="Folder of cards; may be repeated [shipped, your own, mirror/ here].")  # fmt: skip
def main(file: Path, folders: tuple[Path, ...]) -> None:
    places = folders or default_folders()
    put: Counter[str] = Counter()
    try:
        cards, _ = entries(places)
        for timed, record in records(file):
            name = next(iter(timed))
            other = [each for each in timed if each in cards and cards[each].saved.sha256 != timed[each]]
            put[name] += bool(name in cards and not other and write(cards[name], record, places))
    except ZooError as error:
        raise click.ClickException(str(error)) from error
    for name, count in sorted(put.items()):
        other = f"{name}: that checkpoint is not here, or another parent is"
        click.echo(f"{name}: {count} records" if count else other, err=not count)


if __name__ == "__main__":
    main()
