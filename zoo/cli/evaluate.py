"""`zoo eval` and `zoo bench`."""

from __future__ import annotations

from typing import Any

import click

from zoo.cli.options import (
    DEVICE,
    JSON,
    MIRROR,
    WORKERS,
    SectionedCommand,
    data_options,
    data_spec,
    on_several_machines,
    plugins_loaded,
    print_result,
    process_group,
    run_options,
    section,
)
from zoo.cli.params import entry_names


@click.command("eval", cls=SectionedCommand)
@click.argument("entry", metavar="NAME", shell_complete=entry_names)
@data_options()
@section(
    "Run",
    click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Samples per pass."),
    DEVICE,
    WORKERS,
    MIRROR,
    JSON,
)
def evaluate(entry: str, as_json: bool, batch_size: int, **options: Any) -> None:
    """Count the right answers of the entry NAME on the test split."""
    from zoo.workflows import check_eval

    data, run = data_spec(options), run_options(options)
    if not on_several_machines():
        check_eval(entry, data=data, run=run)
    with process_group():
        from zoo.workflows import evaluate_entry

        print_result(evaluate_entry(entry, batch_size=batch_size, data=data, run=run), as_json)


@click.command()
@click.argument("entries", nargs=-1, required=True, metavar="NAME...", shell_complete=entry_names)
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Samples per forward pass.")
@click.option("--dtype", default="float32", show_default=True, help="float32, bfloat16 or float16.")
@click.option("--mode", default="eager", show_default=True, help="eager, compiled or cuda_graph.")
@click.option("--repeats", type=click.IntRange(1), default=50, show_default=True)
@DEVICE
@MIRROR
@JSON
def bench(entries: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Time the forward pass of entries side by side; speed-ups are against the first NAME, or its parent if alone."""
    from zoo.workflows import check_bench

    run = run_options(options)
    check_bench(entries, dtype=options["dtype"], mode=options["mode"], run=run)
    with plugins_loaded():
        from zoo.workflows import bench_entries

        print_result(bench_entries(entries, run=run, **options), as_json)
