"""Pruning by greedy imitation (Ye, Wu, Liu 2020, Greedy Optimization Provably Wins the Lottery).

Score, choose and cut are three things: a criterion scores a group and gives a path, `prune` chooses along it, and
only `cut` makes a network. The option records can be imported without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.prune.options import PAPER, PLAIN, Budget, Repair, Search

if TYPE_CHECKING:
    from zoo.prune.cutting import cut
    from zoo.prune.postprocess import recalibrate
    from zoo.prune.pruner import MEMORY, METHODS, prune
    from zoo.prune.report import GroupReport, PruneReport, StepReport

__all__ = [
    "MEMORY", "METHODS", "PAPER", "PLAIN", "Budget", "GroupReport", "PruneReport", "Repair", "Search", "StepReport",
    "cut", "prune", "recalibrate",
]  # fmt: skip

_LAZY = {
    "MEMORY": "pruner", "METHODS": "pruner", "prune": "pruner", "cut": "cutting", "recalibrate": "postprocess",
    "GroupReport": "report", "PruneReport": "report", "StepReport": "report",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"zoo.prune.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
