"""The methods of the paper and method "repaired", and the choice between what a method proposes for one group (Ye, Wu,
Liu 2020, algorithm 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.prune.engine import GroupEvaluator
from zoo.prune.path import PruningPath
from zoo.prune.report import GroupReport
from zoo.prune.search.global_search import global_imitation
from zoo.prune.search.local_search import (
    first_neuron,
    forward_selection,
    local_discrepancy,
    local_imitation,
    refined_weights,
)
from zoo.prune.search.registry import GroupGoal, Proposals, get_method, register_method, register_search


@register_method("local", gram=True)
def local(evaluator: GroupEvaluator, generator: torch.Generator) -> PruningPath:
    """Local imitation (section 2.1): greedy on the discrepancy at the readers' outputs."""
    return local_imitation(evaluator.gram(generator), refine=evaluator.config.search.refine)


@register_method("gfs", gram=True)
def gfs(evaluator: GroupEvaluator, generator: torch.Generator) -> PruningPath:
    """Greedy forward selection with equal weights on the local discrepancy."""
    return forward_selection(evaluator.gram(generator))


@register_method("repaired", gram=True, reconstruction=True)
def repaired(evaluator: GroupEvaluator, generator: torch.Generator) -> PruningPath:
    """Keep the neurons with which the readers err least after their weights are reconstructed."""
    assert evaluator.reconstruction is not None  # for the type checker
    repair = evaluator.config.repair
    return evaluator.reconstruction.path(repair.selection, swap=repair.swap)


@register_search("global", gram=True)
def global_(evaluator: GroupEvaluator, goal: GroupGoal, generator: torch.Generator) -> Proposals:
    """Global imitation (section 2.2): greedy on the discrepancy at the network's output."""
    G, search = evaluator.gram(generator), evaluator.config.search
    scale = global_imitation(
        evaluator, search=search, start=first_neuron(G), eps=goal.eps, neurons=goal.neurons, generator=generator,
        refine=(lambda scale: refined_weights(G, scale)) if search.refine else None,
        local_error=lambda scale: float(local_discrepancy(G, scale / evaluator.size)),
    )  # fmt: skip
    return {"global": scale}


@register_search("combined", gram=True)
def combined(evaluator: GroupEvaluator, goal: GroupGoal, generator: torch.Generator) -> Proposals:
    """Local and global imitation (section 2.4)."""
    proposals: Proposals = {"local": goal.scale_along(local(evaluator, generator), evaluator)}
    return proposals | global_(evaluator, goal, generator)


def choose_neurons(
    evaluator: GroupEvaluator, goal: GroupGoal, generator: torch.Generator
) -> tuple[GroupReport, Tensor]:
    """Run the method's searches on one group and choose the proposal with the fewest neurons; a tie goes to the smaller
    discrepancy on the samples that choose.

    Returns the report, whose discrepancy, gap and seconds are still to be filled in, and the scales (N,) chosen: all 1
    where the group stays whole.
    """
    N = evaluator.size
    proposals: Proposals = {}
    if goal.neurons != N:
        proposals = get_method(evaluator.config.name).search(evaluator, goal, generator)
    best, winner = torch.ones(N, dtype=torch.float64), "whole"
    fewer = {name: s for name, s in proposals.items() if s is not None and num_neurons(s) < N}
    if len(fewer) == 1:
        ((winner, best),) = fewer.items()
    elif fewer:
        winner, best = min(fewer.items(), key=lambda it: (num_neurons(it[1]), evaluator.chooser_discrepancy(it[1])))
    counts = {name: None if scale is None else num_neurons(scale) for name, scale in proposals.items()}
    report = GroupReport(
        evaluator.group.name, N, num_neurons(best), winner, counts.get("local"), counts.get("global"), 0.0, 0.0, 0.0,
        evaluator.gram_rel_stderr,
    )  # fmt: skip
    return report, best


def num_neurons(scale: Tensor) -> int:
    """The number of neurons whose scale is not 0."""
    return int(torch.count_nonzero(scale))
