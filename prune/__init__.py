"""Pruning by greedy imitation (Ye, Wu, Liu 2020, Greedy Optimization Provably Wins the Lottery).

Score, choose and cut are three things: a criterion scores a group and gives a path, `prune` chooses along it, and
only `cut` makes a network.
"""

from zoo.prune.cut import cut
from zoo.prune.layerwise import MEMORY, METHODS, prune
from zoo.prune.report import GroupReport, PruneReport
from zoo.prune.search import PAPER, Search

__all__ = ["MEMORY", "METHODS", "PAPER", "GroupReport", "PruneReport", "Search", "cut", "prune"]
