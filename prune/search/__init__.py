"""Greedy searches and baselines: for one group, which neurons to keep; and the registry of methods."""

from zoo.prune.search.baselines import geometric_median, l1_norm, random_order, taylor, uniform
from zoo.prune.search.local_search import forward_selection, local_discrepancy, local_imitation, refined_weights
from zoo.prune.search.methods import choose_neurons
from zoo.prune.search.registry import (
    Criterion,
    GroupGoal,
    GroupSearch,
    Proposals,
    PruningMethod,
    default_repair,
    get_method,
    list_methods,
    register_method,
    register_search,
    resolve_config,
)

__all__ = [
    "Criterion", "GroupGoal", "GroupSearch", "Proposals", "PruningMethod", "choose_neurons", "default_repair",
    "forward_selection", "geometric_median", "get_method", "l1_norm", "list_methods", "local_discrepancy",
    "local_imitation", "random_order", "refined_weights", "register_method", "register_search", "resolve_config",
    "taylor", "uniform",
]  # fmt: skip
