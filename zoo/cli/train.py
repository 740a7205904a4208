"""`zoo train` and `zoo finetune`."""

from __future__ import annotations

from typing import Any

import click

from zoo.cli.options import (
    MIRROR,
    SectionedCommand,
    advanced_options,
    data_options,
    data_spec,
    on_several_machines,
    output_options,
    print_result,
    process_group,
    recipe_options,
    run_options,
    take,
)
from zoo.cli.params import entry_names

_CHANGES = ("epochs", "lr", "batch_size", "accumulate", "average", "precision")


@click.command(cls=SectionedCommand)
@click.argument("arch")
@recipe_options(click.option("--width", type=float, default=1.0, help="Width multiplier of the network [1]."))
@data_options(dataset="Data set; folder is your own [shapes].")
@output_options()
@advanced_options()
def train(arch: str, as_json: bool, **options: Any) -> None:
    """Train the network ARCH and add it to your zoo.

    The weights after the last epoch are the result; the test split is evaluated once, at the end. A run that was
    stopped or killed goes on when the same command is given again.
    """
    from zoo.workflows import check_train

    options["dataset"] = options["dataset"] or "shapes"
    data, run, changes = data_spec(options), run_options(options), take(options, _CHANGES)
    if not on_several_machines():
        check_train(arch, data, changes=changes, run=run, **options)
    with process_group():
        from zoo.workflows import train_entry

        print_result(train_entry(arch, data, changes=changes, run=run, **options), as_json)


@click.command(cls=SectionedCommand)
@click.argument("entry", metavar="NAME", shell_complete=entry_names)
@recipe_options(
    click.option("--distil", type=float, help="Part of the loss that is the divergence from the parent [0].")
)
@data_options()
@output_options()
@advanced_options(MIRROR)
def finetune(entry: str, as_json: bool, **options: Any) -> None:
    """Train the entry NAME further and add the result to your zoo.

    The result is compared with the entry's parent, for a pruned network the one that it was pruned from; with --distil
    it learns from the parent's outputs as well.
    """
    from zoo.workflows import check_finetune

    data, run, changes = data_spec(options), run_options(options), take(options, (*_CHANGES, "distil"))
    if not on_several_machines():
        check_finetune(entry, data=data, changes=changes, run=run, **options)
    with process_group():
        from zoo.workflows import finetune_entry

        print_result(finetune_entry(entry, changes=changes, data=data, run=run, **options), as_json)
