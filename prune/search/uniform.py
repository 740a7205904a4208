"""Uniform width: the same part of every group, the oldest baseline."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zoo.models import NeuronGroup
from zoo.prune.engine import ActivationCache, Gates, Target
from zoo.prune.path import smallest
from zoo.prune.search.criteria import l1_norm

PARTS = 128  # the part kept is a multiple of 1/128


@torch.no_grad()
def uniform_widths(
    groups: Sequence[NeuronGroup], chain: ActivationCache, gates: Gates, target: Target, allowed: float, slack: float = 0.0
) -> dict[str, int]:
    """The widths at the smallest part r of every group (neurons with the largest L1 norm) whose gap is below
    `allowed`, or above all but `slack` of it, with all groups pruned at once. The gates are left as they were found."""
    paths = {group.name: l1_norm(group) for group in groups}
    before = {name: gates.get(name) for name in paths}

    def widths(part: int) -> dict[str, int]:
        return {name: max(1, round(part / PARTS * path.size)) for name, path in paths.items()}

    def gap(part: int) -> float:
        for name, n in widths(part).items():
            gates.set(name, paths[name].scale(n))
        logits = torch.cat([chain.outputs(batch) for batch in range(len(chain.sizes))])
        for name, scale in before.items():
            gates.set(name, scale)
        return target.gap_and_discrepancy(logits)[0]

    return widths(smallest(PARTS, gap, allowed, slack=slack))
