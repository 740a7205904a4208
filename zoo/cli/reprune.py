"""`zoo reprune`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.cli.options import (
    FP16_WEIGHTS,
    MIRROR,
    SectionedCommand,
    data_options,
    data_spec,
    entry_options,
    print_result,
    process_group,
    run_options,
    run_section,
    section,
    take,
)
from zoo.cli.params import FILE, entry_names
from zoo.errors import ZooError, suggest
from zoo.prune import PRESETS, Budget, Options, Repair, Search, default_method
from zoo.utils import parse_setting, with_settings
from zoo.workflows import SETTING_TYPES

_TARGETS = {"target_macs": "macs", "target_params": "parameters", "target_latency": "milliseconds"}


def _settings(ctx: click.Context, param: click.Parameter, words: tuple[str, ...]) -> dict[str, Any]:
    """Every `name=value`, a setting of `zoo.prune.Options`, by its name."""
    settings: dict[str, Any] = {}
    for word in words:
        try:
            name, value = parse_setting(word, SETTING_TYPES)
        except ZooError as error:
            raise ZooError(f"-O {word}: {error}") from None
        settings[name] = value
    return settings


def _names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Names with commas between."""
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())


def _preset(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    if value is not None and value not in PRESETS:
        raise ZooError(f"there is no preset {value!r}: {suggest(value, PRESETS)}")
    return PRESETS.get(value or "")


@click.command(cls=SectionedCommand)
@click.argument("entry", metavar="NAME", shell_complete=entry_names)
@section(
    "Goal",
    click.option("--eps", type=float, help="How much cross-entropy each layer may lose; or one of the targets."),
    click.option("--target-macs", type=float, help="MACs of the result: a part (0.78), or a number above 1."),
    click.option("--target-params", type=float, help="Parameters of the result, likewise."),
    click.option("--target-latency", type=float, help="Milliseconds of 8 samples (on a GPU 32) here, likewise."),
    click.option(
        "--round-to", type=click.IntRange(1), metavar="N", help="With a target: widths are multiples of this [1]."
    ),
    click.option(
        "--min-width", type=click.IntRange(1), metavar="N", help="With a target: neurons that each group keeps [1]."
    ),
)
@section(
    "Method",
    click.option("--method", help="How neurons are chosen [combined; with a target: repaired]."),
    click.option("--repair/--no-repair", "update_weights", default=None,
                 help="Fit the weights of readers to the kept neurons [method repaired: yes]."),
    click.option("--groups", callback=_names, help="Names of the groups to prune, with commas between [all]."),
    click.option("--exclude", callback=_names, help="Names of groups that stay as they are, with commas between."),
    click.option("--samples", type=int, metavar="N", help="Training samples to prune on [128 clouds or 256 images]."),
    click.option("--preset", callback=_preset, help=f"How thoroughly neurons are searched: {', '.join(PRESETS)}."),
    click.option("-O", "settings", callback=_settings, multiple=True, metavar="NAME=VALUE",
                 help="A setting of search or repair: search.eps_tolerance=0.1, repair.swap=false. May be repeated."),
)  # fmt: skip
@section(
    "Afterwards",
    click.option("--recalibrate", is_flag=True, default=None, help="Batch-norm statistics from the samples."),
    click.option(
        "--distil-epochs", type=click.IntRange(0), metavar="N", help="Epochs towards the parent, without labels [0]."
    ),
    click.option(
        "--finetune-epochs", type=click.IntRange(0), default=0, metavar="N", help="Epochs on the training split [0]."
    ),
    click.option(
        "--finetune-distil", type=float, default=0.0, help="In them, the part of the loss from the parent [0]."
    ),
    FP16_WEIGHTS,
)
@data_options(click.option("--weights", type=FILE, help="Prune the network NAME with the weights in this file."))
@entry_options()
@run_section(
    MIRROR,
    click.option("--memory", type=click.FloatRange(0), metavar="X", help="GiB for activations that are kept [4]."),
)
def reprune(entry: str, weights: Path | None, as_json: bool, **options: Any) -> None:
    """Prune the entry NAME to a tolerance or a target, measure it beside its parent, and add it to your zoo.

    \b
    zoo reprune dgcnn.shapes --eps 0.02
    zoo reprune dgcnn.modelnet40 --target-macs 0.5 --finetune-epochs 8
    """
    budget = budget_of(options)
    search, settings = options.pop("preset") or Search(), options.pop("settings")
    fields = take(options, "update_weights recalibrate distil_epochs")
    settings |= {f"repair.{name}": value for name, value in fields.items()}
    from zoo.workflows import Finetune, check_reprune

    method = options.pop("method") or default_method(budget)
    finetune = Finetune(options.pop("finetune_epochs"), options.pop("finetune_distil"))
    data, run = data_spec(options), run_options(options)
    for record in ("search", "repair"):  # the values alone; which of them exclude one another depends on the method
        start = Options(search, Repair() if record == "repair" else None)
        with_settings(start, {key: value for key, value in settings.items() if key.startswith(f"{record}.")})
    check_reprune(
        entry, data=data, run=run, weights=weights, budget=budget, method=method, finetune=finetune, **options
    )  # fmt: skip
    with process_group():
        from zoo.prune import default_repair
        from zoo.workflows import WeightsFile
        from zoo.workflows import reprune as reprune_entry

        defaults = Options(search=search, repair=default_repair(method))
        result = reprune_entry(
            WeightsFile(entry, weights) if weights else entry, budget=budget, method=method,
            options=with_settings(defaults, settings), finetune=finetune, data=data, run=run, **options,
        )  # fmt: skip
        print_result(result, as_json)


def budget_of(options: dict[str, Any]) -> Budget | None:
    """Remove the options under "Goal" but --eps from all options; the budget, or None where no target is given.

    Raises ZooError unless there is one goal, and for a width without a target.
    """
    targets = {_TARGETS[name]: value for name, value in take(options, " ".join(_TARGETS)).items()}
    widths = take(options, "round_to min_width")
    if len(targets) > 1:
        raise ZooError("give one target: --target-macs, --target-params or --target-latency")
    if (options["eps"] is None) == (not targets):
        raise ZooError("say how far to prune: --eps 0.02, or one target such as --target-macs 0.78")
    if not targets:
        if widths:
            raise ZooError("--round-to and --min-width go with a target: add --target-macs 0.78, for instance")
        return None
    return Budget(**targets, round_to=widths.get("round_to", 1), minimum=widths.get("min_width", 1))
