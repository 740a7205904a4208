"""The repair and the budget of `zoo reprune`, from command-line options and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from zoo.cards import Value
from zoo.errors import ZooError
from zoo.prune import REPAIR_ALIASES, WEIGHTING_ALIASES, Budget, Repair, default_repair

TARGETS = {"target_macs": "macs", "target_params": "parameters", "target_ms": "milliseconds"}
# What says how far to prune: all else stays the same from one goal to the next.
GOALS = ("eps", *TARGETS, "round_to", "min_width", "groups", "leave", "finetune_epochs", "recalibrate", "distil_epochs")


def budget_of(*, round_to: int | None = None, min_width: int | None = None, **targets: float | None) -> Budget | None:
    """The budget, or None where no target is given.

    Raises ZooError for several targets, for one that is no number above 0, and for a width without a target.
    """
    given = {TARGETS[name]: value for name, value in targets.items() if value is not None}
    if not given:
        if round_to is not None or min_width is not None:
            raise ZooError("--round-to and --min-width go with a target: add --target-macs 0.78, for instance")
        return None
    if len(given) > 1:
        raise ZooError("give one target: --target-macs, --target-params or --target-ms")
    return Budget(**given, round_to=round_to or 1, minimum=min_width or 1)


def budget_options(budget: Budget | None) -> dict[str, Value]:
    """What a command line has to say to get this budget."""
    if budget is None:
        return {}
    target = next(option for option, kind in TARGETS.items() if kind == budget.kind)
    return {
        target: float(getattr(budget, budget.kind)),
        "round_to": budget.round_to if budget.round_to > 1 else None,
        "min_width": budget.minimum if budget.minimum > 1 else None,
    }


def repair_of(method: str, readers: bool | None, changes: dict[str, Any]) -> Repair:
    """A method's repair with the changes asked for; `readers` turns the solving of readers on or off."""
    changes = {REPAIR_ALIASES.get(name, name): value for name, value in changes.items()}
    if "weighting" in changes:
        changes["weighting"] = WEIGHTING_ALIASES.get(changes["weighting"], changes["weighting"])
    settings = {**asdict(default_repair(method)), **changes}
    return Repair(**settings if readers is None else {**settings, "update_weights": readers})


def repair_options(method: str, repair: Repair) -> dict[str, Value]:
    """What a command line has to say to get this repair; what the method comes with goes without saying."""
    usual, old = asdict(default_repair(method)), {new: old for old, new in REPAIR_ALIASES.items()}
    changed: dict[str, Value] = {
        old.get(key, key): value for key, value in asdict(repair).items() if value != usual[key]
    }
    if changed.get("weighting") == "fisher":
        changed["weighting"] = "output"
    for setting, option in (("readers", "repair"), ("exchanges", "exchanges")):
        value = changed.pop(setting, None)
        if value is not None:
            changed[option if value else f"no_{option}"] = True
    return changed
