"""`zoo reprune`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from zoo.cli.options import (
    MIRROR,
    SectionedCommand,
    advanced_options,
    data_options,
    data_spec,
    hide,
    on_several_machines,
    output_options,
    print_result,
    process_group,
    run_options,
    section,
    take,
)
from zoo.cli.params import FILE, entry_names
from zoo.errors import ZooError, suggest
from zoo.prune import PAPER, PRESETS, Budget, Options, Repair, Search, default_method
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
@hide("points", "size", "log")  # the entry's own form of samples; only fine-tuning logs
@click.argument("entry", metavar="NAME", shell_complete=entry_names)
@section(
    "Goal, one of",
    click.option("--eps", type=float, metavar="NATS", help="How much each layer may add to the cross-entropy: 0.02."),
    click.option("--target-macs", type=float, metavar="X", help="MACs of the result, a part (0.5) or a number."),
    click.option("--target-params", type=float, metavar="X", help="Parameters of the result, likewise."),
    click.option("--target-latency", type=float, metavar="X", help="Milliseconds of 8 samples here (GPU: 32)."),
)
@section(
    "Method",
    click.option("--method", help="How neurons are chosen [repaired]; the paper's is combined."),
    click.option(
        "--preset",
        callback=_preset,
        help=f"How neurons are searched: {', '.join(PRESETS)}. "
        "paper is the paper to the letter: combined, no repair, no recovery, any width.",
    ),
    click.option("--samples", type=int, metavar="N", help="Training samples to prune on [512]."),
    click.option("--round-to", type=click.IntRange(1), hidden=True),  # -O search.round_to
    click.option("--groups", callback=_names, help="The layers to prune, with commas between [all]."),
    click.option("--exclude", callback=_names, help="Layers that stay as they are, with commas between."),
)
@section(
    "Recovery",
    click.option("--repair/--no-repair", "update_weights", default=None, hidden=True),  # -O repair.update_weights
    click.option(
        "--recovery",
        type=click.IntRange(0),
        metavar="N",
        help="Three passes over so many training samples towards the parent's outputs [512; --no-recovery].",
    ),
    click.option("--no-recovery", "recovery", flag_value=0, type=int, hidden=True),
    click.option(
        "--finetune-epochs",
        type=click.IntRange(0),
        default=0,
        metavar="N",
        help="Epochs on the labelled training split, instead of recovery [0].",
    ),
    click.option("--finetune-distil", type=float, default=0.0, hidden=True),
    click.option("--recalibrate", is_flag=True, default=None, hidden=True),
    click.option("--distil-epochs", type=click.IntRange(0), hidden=True),
)
@data_options(click.option("--weights", type=FILE, help="Prune the network NAME with the weights in this file."))
@output_options()
@advanced_options(
    MIRROR,
    click.option("-O", "settings", callback=_settings, multiple=True, metavar="NAME=VALUE",
                 help="Any other setting, such as search.round_to=1 or repair.update_weights=no (docs/method.md); "
                 "may be repeated."),
    click.option("--min-width", type=click.IntRange(1), hidden=True),
    click.option("--memory", type=click.FloatRange(0), hidden=True),
)  # fmt: skip
def reprune(entry: str, weights: Path | None, as_json: bool, **options: Any) -> None:
    """Prune the entry NAME to a tolerance or a target, measure it beside its parent, and add it to your zoo.

    \b
    zoo reprune dgcnn.shapes --eps 0.02
    zoo reprune dgcnn.modelnet40 --target-macs 0.5 --finetune-epochs 8
    """
    budget = budget_of(options)
    search, settings = options.pop("preset") or Search(), options.pop("settings")
    fields = take(options, ("update_weights", "recalibrate", "distil_epochs"))
    settings |= {f"repair.{name}": value for name, value in fields.items()}
    settings |= {f"search.{name}": value for name, value in take(options, ["round_to"]).items()}
    from zoo.workflows import Finetune, PruneSpec, WeightsFile, check_reprune

    method = options.pop("method") or default_method(search)
    recovery = options.pop("recovery")
    if recovery is None and search == PAPER:  # also where -O or --round-to changes a setting of that preset
        recovery = 0
    finetune = Finetune(options.pop("finetune_epochs"), options.pop("finetune_distil"), recovery)
    data, run = data_spec(options), run_options(options)
    target = WeightsFile(entry, weights) if weights else entry
    spec = PruneSpec(budget=budget, method=method, **options)
    for record in ("search", "repair"):  # the values alone; which of them exclude one another depends on the method
        start = Options(search, Repair() if record == "repair" else None)
        with_settings(start, {key: value for key, value in settings.items() if key.startswith(f"{record}.")})
    if not on_several_machines():
        check_reprune(target, spec, finetune=finetune, data=data, run=run)
    with process_group():
        from zoo.prune import default_repair
        from zoo.workflows import reprune as reprune_entry

        defaults = Options(search=search, repair=default_repair(method))
        spec = replace(spec, options=with_settings(defaults, settings))
        print_result(reprune_entry(target, spec, finetune=finetune, data=data, run=run), as_json)


def budget_of(options: dict[str, Any]) -> Budget | None:
    """Remove the options under "Goal" but --eps from all options, and --min-width; the budget, or None where no target
    is given.

    Raises ZooError unless there is one goal, and for a smallest width without a target.
    """
    targets = {_TARGETS[name]: value for name, value in take(options, _TARGETS).items()}
    minimum = options.pop("min_width")
    if len(targets) > 1:
        raise ZooError("give one target: --target-macs, --target-params or --target-latency")
    if options["eps"] is not None and targets:
        raise ZooError("--eps and a target were given: say how far to prune by one of them")
    if options["eps"] is None and not targets:
        raise ZooError("say how far to prune: --eps 0.02, or one target such as --target-macs 0.78")
    if targets:
        return Budget(**targets, minimum=minimum or 1)
    if minimum is not None:
        raise ZooError("--min-width goes with a target: add --target-macs 0.78, for instance")
    return None
