"""Pruning by greedy imitation (Ye, Wu, Liu 2020, Greedy Optimization Provably Wins the Lottery).

A criterion scores the neurons of a group and gives a path; `prune` chooses along the path; only `cut` makes a network.
The option records can be imported without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.prune.options import (
    PAPER,
    PLAIN,
    PRESETS,
    REPAIR_ALIASES,
    SEARCH_ALIASES,
    WEIGHTING_ALIASES,
    Budget,
    MethodConfig,
    Options,
    Repair,
    Runtime,
    Search,
    check_goal,
    default_method,
)
from zoo.utils import lazy_imports

if TYPE_CHECKING:
    from zoo.prune.cutting import cut
    from zoo.prune.engine import GroupEvaluator
    from zoo.prune.path import PruningPath
    from zoo.prune.postprocess import distil, recalibrate
    from zoo.prune.pruner import prune
    from zoo.prune.report import GroupReport, PruneReport, StepReport
    from zoo.prune.search import default_repair, get_method, list_methods, register_method, resolve_config

    METHODS: tuple[str, ...]

__all__ = [
    "METHODS", "PAPER", "PLAIN", "PRESETS", "REPAIR_ALIASES", "SEARCH_ALIASES", "WEIGHTING_ALIASES", "Budget",
    "GroupEvaluator", "GroupReport", "MethodConfig", "Options", "PruneReport", "PruningPath", "Repair", "Runtime",
    "Search", "StepReport", "check_goal", "cut", "default_method", "default_repair", "distil", "get_method",
    "list_methods", "prune", "recalibrate", "register_method", "resolve_config",
]  # fmt: skip

_lazy = lazy_imports(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "METHODS":  # of this moment: a criterion may be registered later
        return _lazy("list_methods")()
    return _lazy(name)
