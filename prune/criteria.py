"""The baselines that look at weights only, through the same interface as imitation."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.models.groups import NeuronGroup
from zoo.prune.paths import Path


def l1_norm(group: NeuronGroup) -> Path:
    """Keep the neurons whose own filter has the largest L1 norm, unscaled (Li et al. 2017, Pruning Filters)."""
    weight: Tensor = group.writers[0].weight  # type: ignore[assignment]
    norm = weight.detach().flatten(1).abs().sum(1).double().cpu()
    return Path.ranked(torch.argsort(norm, descending=True, stable=True))
