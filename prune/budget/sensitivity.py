"""The curve of every group: what n neurons cost the network at its output when this group alone is pruned."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from zoo.models import NeuronGroup
from zoo.prune.engine import MIN_SAMPLES, GroupEvaluator, PruningSession
from zoo.prune.path import Path
from zoo.prune.resume import Record
from zoo.prune.statistics import VAL_EVERY

# Parts of a group at which the divergence is looked at; between them it goes with the local error.
PARTS = (0.9, 0.75, 0.6, 0.4, 0.2)
LOOK = 128  # so many samples at most
SMALLEST = 1e-7  # nats: what float32 can still tell
NOTHING = 1e-15  # a local error in nats or parts of an energy: nothing depends on the group
ROUNDING = 1e-8  # of the largest local error: below it errors are rounding


def curves(
    space: PruningSession, groups: Sequence[NeuronGroup], path_of: Callable[[GroupEvaluator], Path], record: Record, *, progress: bool
) -> dict[str, Tensor]:
    """Group name -> (N + 1,) divergence in nats with n = 0 ... N neurons of this group and all of the others.

    Along one path the divergence is nearly proportional to the local error, so a few looks give all n. They use the
    samples that the readers were not solved on, where there are enough. path_of gives a layer its path, and its
    repairer if it has one. A group that is in the record already is not computed again.
    """
    found: dict[str, Tensor] = {}
    chain = space.activation_cache()
    reference = None
    for group in tqdm(groups, "prices", disable=None if progress else True, leave=False):
        if len(record.values.get(group.name, [])) != group.size + 1:
            reference = space.logits(chain) if reference is None else reference
            layer = space.evaluator(group, chain, reference)
            record.update({group.name: _curve(layer, path_of(layer)).tolist()})
        found[group.name] = torch.tensor(record.values[group.name], dtype=torch.float64)
    return found


def _curve(layer: GroupEvaluator, path: Path) -> Tensor:
    N = path.size
    total = sum(layer.chain.sizes)
    held = torch.arange(total)[VAL_EVERY - 1 :: VAL_EVERY][:LOOK]
    samples = held if len(held) >= MIN_SAMPLES else torch.arange(min(total, LOOK))
    split = "train" if len(held) >= MIN_SAMPLES else "all"
    local = path.profile()
    errors = torch.ones(N, dtype=torch.float64)
    if local is not None and float(local.max()) > NOTHING:
        errors = local.clamp_min(ROUNDING * float(local.max()))
    looks = sorted({n for share in PARTS if 1 <= (n := round(share * N)) < N})
    ratios = []
    for n in looks:
        divergence = layer.sample_discrepancy(samples, path.scale(n), split=split)
        seen = divergence if math.isfinite(divergence) else 1e6
        ratios.append(math.log(max(seen, SMALLEST)) - math.log(float(errors[n - 1])))
    seen_at = np.interp(np.arange(1, N + 1), looks, ratios) if looks else np.zeros(N)
    curve = torch.cat([torch.full((1,), torch.inf, dtype=torch.float64), errors * torch.from_numpy(seen_at).exp()])
    curve[N] = 0.0
    return curve.flip(0).cummax(0).values.flip(0)  # more neurons are never worse


