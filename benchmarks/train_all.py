"""Make the entries of the zoo again: the commands of zoo.toml, one after the other.

    python benchmarks/train_all.py --data-dir DIR             for a GPU: 1024 points, the recipes' epochs
    python benchmarks/train_all.py --data-dir DIR --small     for two CPU cores: 512 points, few epochs
    python benchmarks/train_all.py --data-dir DIR --seed 1    the ModelNet10 family with another seed

DIR (or ZOO_DATA_DIR) holds ModelNet10 (modelnet10_ply_hdf5_...), Imagenette and CIFAR-10 (JPEG) under their usual
names. Entries are saved under ZOO_HOME. After an interruption the same command goes on: an entry that the list's
command made is left as it is, or downloaded where a mirror (ZOO_MIRROR) has it, and a training goes on at its last
epoch. The full size replaces entries that another command made, those that the package ships in this clone; --small
replaces nothing. An entry whose parent could not be made is left out, and the others are made all the same.

To show new entries in the tables of this clone, publish them into mirror/ or copy their cards into benchmarks/seeds/
(other seeds), then run answers.py and readme_table.py.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.core import ParameterSource

from zoo import models, store
from zoo.cards import Card
from zoo.cli import main as zoo_group
from zoo.errors import ZooError
from zoo.evaluate import count
from zoo.utils import MAX_SEED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pip install tomli

ROOT = Path(__file__).resolve().parent.parent
LIST = Path(__file__).with_name("zoo.toml")
# The options that the command on a card states where they were not typed.
FILLED_IN = {"dataset", "points", "size", "mean", "std", "lr", "batch_size", "samples", "recovery", "seed", "name"}


class DenseMacs(dict[str, int]):
    """The MACs of the dense DGCNN by its width multiplier, counted on clouds of `points` points."""

    def __init__(self, points: int) -> None:
        self.points = points

    def __missing__(self, multiplier: str) -> int:
        widths = models.scaled_widths("dgcnn", float(multiplier), num_classes=10)
        macs = count(models.build("dgcnn", num_classes=10, widths=widths), (3, self.points)).macs
        return self.setdefault(multiplier, macs)


def commands(size: str, seed: int) -> dict[str, list[str]]:
    """The words behind `zoo` that make each entry of the list, by the entry's name, in the order of the list."""
    listed = tomllib.loads(LIST.read_text(encoding="utf-8"))
    values: dict[str, Any] = {**listed[size], "dense_macs": DenseMacs(listed[size]["points"])}
    values["seed"] = f"-seed{seed}" if seed else ""
    command_of = {}
    for entry in listed["entry"]:
        if seed == 0 or "{seed}" in entry["name"]:
            name = entry["name"].format(**values)
            words = shlex.split(entry["command"].format(**values))
            words += ["--seed", str(seed)] if seed else []
            command_of[name] = words if words[0] == "train" and not seed else [*words, "--name", name]
    return command_of


def command_matches_card(words: Sequence[str], card: Card, cards: Mapping[str, Card]) -> bool:
    """Whether this command made a card's entry.

    The command on the card must set every option that `words` set to the same value, and others only where a command
    fills them in; and the parent's card in `cards` must have the checkpoint that was pruned.
    """
    parent, parent_sha256 = cards.get(words[1]), card.recipe.get("parent_sha256")
    if parent is not None and parent_sha256 not in (None, parent.saved.sha256):
        return False
    try:
        typed, recorded = options(words), options(shlex.split(str(card.recipe.get("command", "")))[1:])
    except (click.ClickException, ZooError, IndexError):  # the card's command is none of this version
        return False
    same = all(recorded.get(option) == value for option, value in typed.items() if option != "name")
    return same and recorded.keys() - typed.keys() <= FILLED_IN


def options(words: Sequence[str]) -> dict[str, Any]:
    """The options and arguments that the words of a `zoo` command set, as the command line parses them."""
    name, command, rest = zoo_group.resolve_command(click.Context(zoo_group), list(words))
    assert command is not None
    context = command.make_context(name, rest)
    typed = {option for option in context.params if context.get_parameter_source(option) is ParameterSource.COMMANDLINE}
    return {"command": name, **{option: context.params[option] for option in typed}}


class Runner:
    """Runs commands one at a time. A signal that asks this script to stop is passed on to the command that runs, which
    saves its state and ends, and no other begins."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.stopped = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True
        if self.child is not None:
            self.child.terminate()

    def __call__(self, words: Sequence[str]) -> bool:
        """Run `zoo` with these words; True if it succeeded."""
        # A session of its own: Ctrl-C in a terminal would otherwise reach the command a second time.
        self.child = subprocess.Popen([sys.executable, "-m", "zoo", *words], start_new_session=True)
        if self.stopped:
            self.child.terminate()
        return self.child.wait() == 0


def make(name: str, words: Sequence[str], run: Runner, *, small: bool) -> str:
    """Make one entry unless it is there: 'made', 'there', 'failed', or 'other' where another command's is kept."""
    cards = store.cards(store.configured_mirrors())
    card, replace = cards.get(name), list[str]()
    if card is not None and command_matches_card(words, card, cards):
        with suppress(ZooError):  # a mirror may hold its card alone
            store.download(name)
            return "there"
    if store.is_shipped(name):
        replace = ["--overwrite", "--output-dir", str(ROOT / "zoo" / "checkpoints")]
    elif (store.user_dir() / f"{name}.json").exists():
        replace = ["--overwrite"]
    if replace and small:
        return "other"
    workers = [] if small else ["--workers", str(min(8, (os.cpu_count() or 1) - 1))]  # two cores train, more load data
    click.echo(f"== {name}: zoo {shlex.join(words)}")
    return "made" if run([*words, *workers, *replace]) else "failed"


@click.command()
@click.option("--small", is_flag=True, help="For two CPU cores: 512 points, few epochs.")
@click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, help="Other seeds: the ModelNet10 family alone.")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Where the data lie [ZOO_DATA_DIR].")
@click.option("--dry-run", is_flag=True, help="Print the commands and run nothing.")
def main(small: bool, seed: int, data_dir: Path | None, dry_run: bool) -> None:
    listed = commands("small" if small else "full", seed)
    if dry_run:
        click.echo("\n".join(f"zoo {shlex.join(words)}" for words in listed.values()))
        return
    if data_dir is not None:
        os.environ["ZOO_DATA_DIR"] = str(data_dir.resolve())
    run, outcome = Runner(), dict[str, str]()
    for name, words in listed.items():
        parent = outcome.get(words[1], "there")
        outcome[name] = parent if parent in ("failed", "other") else make(name, words, run, small=small)
        if run.stopped:
            sys.exit(128 + signal.SIGTERM)
        if outcome[name] == "there":
            click.echo(f"== {name} is there")
        elif outcome[name] == "other":
            which = "its parent" if parent == "other" else "the entry there"
            click.echo(f"== {name} is left out: {which} was made by another command")
    if failed := [name for name, what in outcome.items() if what == "failed"]:
        raise click.ClickException(f"not made: {' '.join(failed)}")


if __name__ == "__main__":
    main()
