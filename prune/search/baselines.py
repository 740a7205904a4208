"""The baselines that rank the neurons of a group once, through the same interface as imitation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from zoo.models import NeuronGroup
from zoo.prune.engine import GroupEvaluator, PruningSession, Target
from zoo.prune.path import PruningPath, allowed_widths, smallest_width
from zoo.prune.search.registry import register_method

UNIFORM_STEPS = 128  # a uniform width keeps a multiple of 1/128 of every group


def _filters(group: NeuronGroup) -> Tensor:
    """(N, K) the weights of each neuron in the group's first writer."""
    weight: Tensor = group.writers[0].weight  # type: ignore[assignment]
    return weight.detach().flatten(1)


def _descending(importance: Tensor) -> PruningPath:
    return PruningPath.from_ranking(torch.argsort(importance, descending=True, stable=True))


@register_method("random")
def random_order(evaluator: GroupEvaluator, generator: torch.Generator) -> PruningPath:
    """Keep random neurons, unscaled, drawn by the seed."""
    return PruningPath.from_ranking(torch.randperm(evaluator.size, generator=generator))


@register_method("l1")
def l1_norm(evaluator: GroupEvaluator, generator: torch.Generator) -> PruningPath:
    """Keep the neurons whose own filter has the largest L1 norm, unscaled (Li et al. 2017, Pruning Filters)."""
    return _l1_path(evaluator.group)


def _l1_path(group: NeuronGroup) -> PruningPath:
    return _descending(_filters(group).abs().sum(1).double().cpu())


@register_method("fpgm")
def geometric_median(evaluator: GroupEvaluator, generator: torch.Generator) -> PruningPath:
    """Keep the neurons whose filters lie farthest from all others, unscaled: the others can replace a filter near their
    geometric median (He et al. 2019, Filter Pruning via Geometric Median)."""
    filters = _filters(evaluator.group).double().cpu()
    return _descending(torch.cdist(filters, filters).sum(1))


@register_method("taylor", labels=True)
def taylor(evaluator: GroupEvaluator, generator: torch.Generator) -> PruningPath:
    """Keep the neurons with the largest first-order importance, unscaled: the mean over batches of the square of the
    loss's derivative with respect to a gate on the neuron (Molchanov et al. 2019, Importance Estimation).

    Raises ZooError without class labels.
    """
    return _descending(evaluator.taylor_importance())


@torch.no_grad()
def uniform_widths(
    session: PruningSession, groups: Sequence[NeuronGroup], target: Target, eps: float
) -> dict[str, int]:
    """The widths at the smallest fraction of every group whose gap is below eps times the number of groups, with all
    groups pruned at once. The gates are restored."""
    activations, gates = session.activation_cache(), session.gates
    paths = {group.name: _l1_path(group) for group in groups}
    before = {name: gates.get(name) for name in paths}
    allowed = {name: allowed_widths(path.size, session.config.search.round_to) for name, path in paths.items()}
    batches = range(1 + [*accumulate(activations.sizes)].index(session.num_judges))

    def widths(step: int) -> dict[str, int]:
        return {name: _nearest(allowed[name], step / UNIFORM_STEPS * path.size) for name, path in paths.items()}

    def gap(step: int) -> float:
        for name, n in widths(step).items():
            gates.set(name, paths[name].scale(n))
        logits = torch.cat([activations.outputs(batch) for batch in batches])
        for name, scale in before.items():
            gates.set(name, scale)
        gap = target.gap_and_discrepancy(logits)[0]
        return gap + target.gap_standard_error(logits) if session.num_judges < len(session.inputs) else gap

    tolerance = session.config.search.eps_tolerance
    return widths(smallest_width(UNIFORM_STEPS, gap, eps * len(groups), eps_tolerance=tolerance))


def _nearest(widths: Sequence[int], width: float) -> int:
    return min(widths, key=lambda n: (abs(n - width), n % 2))


@register_method("uniform", widths=uniform_widths)
def uniform(evaluator: GroupEvaluator, generator: torch.Generator) -> PruningPath:
    """Keep the neurons with the largest L1 norm, the same fraction of every group."""
    return _l1_path(evaluator.group)
