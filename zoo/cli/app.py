"""The command ``zoo``. Commands parse, call one library function and print.

A `ZooError` from anywhere below ends the command with ``Error: <message>`` and exit code 2. Commands that need torch
lie in files of their own and are imported when they are run, so ``zoo list`` and ``zoo --help`` stay quick.
"""

from __future__ import annotations

import errno
import json
import os
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from zoo import display, store
from zoo.cli.completion import entry_names
from zoo.cli.list_options import EPILOG, list_options
from zoo.cli.params import FOLDER
from zoo.cli.sigterm import install_sigterm_handler
from zoo.display import USUAL, Query, parse_columns
from zoo.errors import ZooError, suggest
from zoo.store import locations

# name -> where the command is, and its line in `zoo --help`
LAZY = {
    "reprune": ("zoo.cli.reprune:reprune", "Prune a network with a new tolerance, measure it, keep it."),
    "train": ("zoo.cli.train:train", "Train a network and keep it."),
    "finetune": ("zoo.cli.train:finetune", "Train an entry further and keep the result."),
    "eval": ("zoo.cli.evaluate:evaluate", "Count an entry's right answers on a data set."),
    "bench": ("zoo.cli.evaluate:bench", "Time an entry's forward pass beside its parent's."),
    "export": ("zoo.cli.convert:export", "Write an entry's network as ONNX, torch.export or TorchScript."),
    "convert": ("zoo.cli.convert:convert", "Turn a file of weights into one of the zoo's checkpoints."),
    "bundle": ("zoo.cli.store:bundle", "Put entries into one file, or install such a file."),
    "cache": ("zoo.cli.store:cache", "List, clean or verify what was downloaded."),
    "publish": ("zoo.cli.store:publish", "Write a mirror that any static web server can serve."),
}
PATIENCE = 10.0  # seconds within which torchrun ends what is left of its processes
TOGETHER = ("eval", "finetune", "reprune", "train")  # what several processes do as one


class ZooGroup(click.Group):
    """A group whose heavy commands are imported on use and whose `ZooError`s end it with exit code 2."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run as the command line of this process: the console script and ``python -m zoo`` call this."""
        install_sigterm_handler()
        return super().__call__(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.commands, *LAZY})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in LAZY:  # a stand-in is enough for help and completion; resolve_command gives the real one
            return click.Command(cmd_name, short_help=LAZY[cmd_name][1])
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE") != "1" and args[0] not in TOGETHER:
            _let_the_first_say_it()
            raise ZooError(f"zoo {args[0]} is for one process: start it without torchrun")
        if args[0] in LAZY:
            module, _, attribute = LAZY[args[0]][0].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return args[0], command, args[1:]
        if not args[0].startswith("-") and args[0] not in self.commands:
            ctx.fail(f"no command {args[0]!r}: {suggest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError:
            _let_the_first_say_it()
            raise
        except ZooError as error:
            raise _Failure(str(error)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # click ends quietly where nobody reads any more
                raise
            place = f"{error.filename}: " if error.filename else ""
            raise _Failure(f"{place}{error.strerror or error}") from error


class _Failure(click.ClickException):
    exit_code = 2


def _let_the_first_say_it() -> None:
    """What is wrong with the words of a command is wrong in every process that one torchrun started: the others wait
    until the first has said it and torchrun ends them."""
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("LOCAL_RANK", "0") != "0":
        time.sleep(PATIENCE)  # and then say it themselves: the first did not


@click.group(cls=ZooGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pruned-zoo")
def main() -> None:
    """A point-cloud and vision model zoo with pruned variants, measured beside their parents."""


@main.command("list", short_help="List the entries on this machine, children under their parents.", epilog=EPILOG)
@click.argument("pattern", nargs=-1)
@list_options
def list_(
    pattern: tuple[str, ...], columns: str | None, mirror: tuple[str, ...], as_json: bool, **filters: Any
) -> None:
    """List the entries on this machine, pruned ones under their parents.

    PATTERN is a name in which * stands for anything: zoo list 'dgcnn*'. Of several, any may match. Entries that do
    not state a number that is asked for are left out.
    """
    if as_json and columns is not None:
        raise ZooError("--columns chooses what the table shows, --json prints whole cards: give one of them")
    query = Query(pattern=pattern, **filters)
    shown = USUAL if columns is None else parse_columns(columns)
    known = store.cards(mirror)
    chosen = query.select(known)
    if as_json:
        click.echo(json.dumps([json.loads(card.to_json()) for card in chosen.values()], indent=2))
    elif chosen:
        views = {name: query.view(card) for name, card in chosen.items()}
        click.echo(display.card_table(views, shown, families=query.sort is None))
    if not known:
        click.echo("the zoo is empty: make an entry with zoo train, or zoo download NAME --mirror M", err=True)
        return
    for remark in query.remarks(known):
        click.echo(remark, err=True)


@main.command(short_help="Show an entry's card, its parent beside it.")
@click.argument("name", shell_complete=entry_names)
@click.option("--mirror", multiple=True, help="Look here as well [ZOO_MIRROR, for what is not here]; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print the card as it is stored.")
def info(name: str, mirror: tuple[str, ...], as_json: bool) -> None:
    """Show an entry's card: what it is, its parent beside it, how to make it again, terms of use."""
    try:
        card = store.info(name, mirror=mirror)
    except ZooError:
        if mirror or not store.configured_mirrors():
            raise
        card = store.info(name, mirror=store.configured_mirrors())  # those of ZOO_MIRROR: zoo download would ask them too
    if as_json:
        click.echo(card.to_json(), nl=False)
    else:
        shipped = store.is_shipped(card.name)
        click.echo(display.card_page(card, store.cards(mirror), locations(card, mirror), shipped=shipped))


@main.command(short_help="Put an entry's checkpoint on this machine, verified.")
@click.argument("name", shell_complete=entry_names)
@click.option("--to", type=FOLDER, help="Copy checkpoint and card here too.")
@click.option("--mirror", "mirror", multiple=True, help="Folder, bundle, file://, http(s)://, hf://; may be repeated.")
@click.option("--overwrite", is_flag=True, help="Replace another entry of that name in the folder of --to.")
@click.option("--json", "as_json", is_flag=True, help="Print name, path, size, SHA-256 and licences as JSON.")
def download(name: str, to: Path | None, mirror: tuple[str, ...], overwrite: bool, as_json: bool) -> None:
    """Put an entry's checkpoint on this machine, verified, and print its path.

    Mirrors are asked for what is not here yet: those given, or else those that ZOO_MIRROR lists.
    """
    path, card = store.fetch(name, to=to, mirror=mirror or None, overwrite=overwrite)
    if not as_json:
        click.echo(path)
        click.echo(f"terms of use: {card.licences.line()}", err=True)
        return
    record = {"name": card.name, "path": str(path), "size": card.saved.size, "sha256": card.saved.sha256}
    click.echo(json.dumps({**record, "licences": vars(card.licences)}, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
