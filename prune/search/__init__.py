"""Greedy searches and baselines: for one group, which neurons to keep."""

from zoo.prune.search.local_search import forward_selection, local_discrepancy, local_imitation, settled
from zoo.prune.search.methods import PATHS, STATISTICAL, Method, Weights, path_of, prune_group
from zoo.prune.search.uniform import uniform_widths

__all__ = [
    "PATHS",
    "STATISTICAL",
    "Method",
    "Weights",
    "forward_selection",
    "local_discrepancy",
    "local_imitation",
    "path_of",
    "prune_group",
    "settled",
    "uniform_widths",
]
