"""The options that several commands share, under headings, and the command class that prints them so.

No torch is imported until the words of a command are parsed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

import click

from zoo.cli.params import FILE, FOLDER, PATH, mirror_option
from zoo.utils import MAX_SEED, keep_freed_memory, load_plugins
from zoo.workflows import translate_old_options

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


class SectionedCommand(click.Command):
    """A command whose options are listed under headings, and that takes the options of earlier versions too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, translate_old_options(args))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(param, "section", "Advanced"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def section(title: str, *options: Decorator[Any]) -> Decorator[Any]:
    """Add options to a command, under a heading."""

    def add(function: F) -> F:
        for option in reversed(options):
            before = len(getattr(function, "__click_params__", ()))  # set by click.option
            function = option(function)
            for param in function.__click_params__[before:]:  # type: ignore[attr-defined]
                param.section = title
        return function

    return add


def hide(*names: str) -> Decorator[Any]:
    """Leave options out of a command's help, where few need them; they work all the same."""

    def mark(function: F) -> F:
        for param in function.__click_params__:  # type: ignore[attr-defined]  # set by click.option
            if param.name in names:
                param.hidden = True
        return function

    return mark


@contextmanager
def plugins_loaded() -> Iterator[None]:
    """What a command that uses torch runs in, once its words were checked: with the plugins of the user."""
    keep_freed_memory()
    load_plugins()
    yield


@contextmanager
def process_group() -> Iterator[None]:
    """The same, for a command that torchrun may start in several processes."""
    from zoo import distributed

    with plugins_loaded(), distributed.process_group():
        yield


def on_several_machines() -> bool:
    """Whether torchrun runs this command on several machines.

    What is wrong on one of them is then said when all have joined, by the function that the command calls: the others
    would wait for a process that ended before.
    """
    return os.environ.get("WORLD_SIZE", "1") != os.environ.get("LOCAL_WORLD_SIZE", "1")


def print_result(result: Any, as_json: bool) -> None:
    """Print what a command made as a table, or as one JSON document. Of several processes the first one prints."""
    from zoo import distributed

    if distributed.rank() == 0:
        if as_json:
            click.echo(json.dumps(result.to_dict(), indent=2))
            return
        click.echo(result.table())
        if hasattr(result, "ending"):  # an entry was made
            click.echo(f"\n{result.ending()}")


def take(options: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Remove these options from all options, and return those that were typed."""
    taken = {name: options.pop(name) for name in names}
    return {name: value for name, value in taken.items() if value is not None}


def data_spec(options: dict[str, Any]) -> Any:
    """The `DataSpec` of the options under "Data"."""
    from zoo.workflows import DataSpec

    return DataSpec(**take(options, [field.name for field in fields(DataSpec)]))


def run_options(options: dict[str, Any]) -> Any:
    """The `RunOptions` of the options under "Entry" and "Run"."""
    from zoo.workflows import RunOptions

    names = {field.name for field in fields(RunOptions)} & options.keys()
    return RunOptions(progress=not options.pop("quiet", False), **take(options, names))


def recipe_options(*more: Decorator[Any]) -> Decorator[Any]:
    """The options that change a recipe."""
    return section(
        "Recipe",
        click.option("--recipe", type=FILE, help="Recipe file [the network's own]."),
        click.option("--epochs", type=int, help="Passes over the training split [recipe]."),
        click.option("--lr", type=float, help="Highest learning rate [recipe]."),
        click.option("--batch-size", type=int, help="Samples of a step [recipe]."),
        click.option("--accumulate", type=int, help="Parts that a batch runs in, where a whole one does not fit [1]."),
        click.option("--average", type=float, help="Exponential average of the weights, e.g. 0.999 [recipe]."),
        click.option("--precision", help="Of products: float32, bfloat16 or float16; weights stay float32 [float32]."),
        *more,
    )


def data_options(*more: Decorator[Any], dataset: str = "Data set; folder is your own [the entry's].") -> Decorator[Any]:
    """The options that say which samples a command works on."""
    return section(
        "Data",
        click.option("--dataset", help=dataset),
        click.option("--data-dir", type=PATH, help="The folder that holds the data set."),
        click.option("--download", is_flag=True, default=None, help="Fetch the data set if its owners publish it."),
        click.option("--points", type=int, help="Points per cloud."),
        click.option("--size", type=int, help="Side of the images in pixels."),
        click.option("--mean", type=float, nargs=3, hidden=True, help="Mean of the images' channels."),
        click.option("--std", type=float, nargs=3, hidden=True, help="Deviation of the images' channels."),
        click.option(
            "--validation", type=float, help="Judge on this part of the training split, not on the test split."
        ),
        *more,
    )


JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
DEVICE = click.option("--device", help="cpu, cuda or cuda:<number>; the first GPU if there is one.")
WORKERS = click.option(
    "--workers", type=click.IntRange(0), default=0, metavar="N", help="Processes that load data [0]."
)
MIRROR = mirror_option("Where to look for NAME if it is not here [ZOO_MIRROR]; may be repeated.")
FP16_WEIGHTS = click.option(
    "--fp16-weights", is_flag=True, help="Store float16 weights where no decision on validation data [0.1] changes."
)


def output_options(*more: Decorator[Any]) -> Decorator[Any]:
    """The options that say how the new entry is saved, and what is printed."""
    return section(
        "Output",
        click.option("--name", help="Name of the new entry [one that says what it is]."),
        click.option("--output-dir", type=FOLDER, help="Save here [your zoo]."),
        click.option("--overwrite", is_flag=True, help="Replace an entry of that name."),
        FP16_WEIGHTS,
        JSON,
        click.option("-q", "--quiet", is_flag=True, help="No progress, the result alone."),
        click.option("--log", type=FILE, help="Log each epoch of training as a line of JSON in this file."),
        *more,
    )


def advanced_options(*more: Decorator[Any]) -> Decorator[Any]:
    """The options that say where a command runs, and what few need."""
    return section(
        "Advanced",
        DEVICE,
        WORKERS,
        click.option(
            "--seed", type=click.IntRange(0, MAX_SEED), default=0, metavar="N", help="Of all that is drawn [0]."
        ),
        click.option("--resume/--no-resume", default=True, help="Go on where the same command was stopped [yes]."),
        *more,
    )
