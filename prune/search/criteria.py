"""The baselines that rank neurons once, through the same interface as imitation."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.models import NeuronGroup
from zoo.prune.engine import GroupEvaluator
from zoo.prune.path import Path


def l1_norm(group: NeuronGroup) -> Path:
    """Keep the neurons whose own filter has the largest L1 norm, unscaled (Li et al. 2017, Pruning Filters)."""
    weight: Tensor = group.writers[0].weight  # type: ignore[assignment]
    norm = weight.detach().flatten(1).abs().sum(1).double().cpu()
    return Path.ranked(torch.argsort(norm, descending=True, stable=True))


def geometric_median(group: NeuronGroup) -> Path:
    """Keep the neurons whose filters lie farthest from all others, unscaled: those near the geometric median can be
    replaced by the others (He et al. 2019, Filter Pruning via Geometric Median)."""
    weight: Tensor = group.writers[0].weight  # type: ignore[assignment]
    filters = weight.detach().flatten(1).double().cpu()
    return Path.ranked(torch.argsort(torch.cdist(filters, filters).sum(1), descending=True, stable=True))


def taylor(layer: GroupEvaluator) -> Path:
    """Keep the neurons with the largest first-order importance, unscaled: the mean over batches of the square of the
    loss's derivative with respect to a gate on the neuron (Molchanov et al. 2019, Importance Estimation).

    Raises ZooError without class labels.
    """
    return Path.ranked(torch.argsort(layer.taylor_importance(), descending=True, stable=True))
