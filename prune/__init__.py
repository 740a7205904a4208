"""Pruning by greedy imitation (Ye, Wu, Liu 2020, Greedy Optimization Provably Wins the Lottery).

Score, choose and cut are three things: a criterion scores a group and gives a path, `prune` chooses along it, and
only `cut` makes a network.
"""

from zoo.prune.allocation import Budget
from zoo.prune.cut import cut
from zoo.prune.layerwise import MEMORY, METHODS, prune
from zoo.prune.repair.options import PLAIN, Repair
from zoo.prune.report import GroupReport, PruneReport, StepReport
from zoo.prune.search import PAPER, Search

__all__ = [
    "MEMORY", "METHODS", "PAPER", "PLAIN", "Budget", "GroupReport", "PruneReport", "Repair", "Search", "StepReport",
    "cut", "prune",
]  # fmt: skip
