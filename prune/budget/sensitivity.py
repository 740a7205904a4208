"""The sensitivity curve of every group: the divergence at the network's output when this group alone keeps n neurons
(as in Li et al. 2017, Pruning Filters, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from zoo.models import NeuronGroup
from zoo.prune.engine import MIN_SAMPLES, GroupEvaluator, PruningSession
from zoo.prune.path import PruningPath
from zoo.prune.resume import CacheFile
from zoo.prune.search import Criterion
from zoo.prune.statistics import VAL_EVERY
from zoo.utils import progress_bar

# Fractions of a group at which the divergence is computed; between them it is interpolated along the local error.
FRACTIONS = (0.9, 0.75, 0.6, 0.4, 0.2)
MAX_SAMPLES = 128
MIN_DIVERGENCE = 1e-7  # nats: what float32 can still tell
NO_ERROR = 1e-15  # a largest local error, in nats or parts of an energy, below which nothing depends on the group
ROUNDING = 1e-8  # of the largest local error: smaller errors are rounding
NOT_FINITE = 1e6  # nats, in place of a divergence that is not a number


def sensitivity_curves(
    session: PruningSession, groups: Sequence[NeuronGroup], criterion: Criterion, reference: Tensor, cache: CacheFile,
    *, fisher: Mapping[str, Sequence[Tensor]] | None = None, progress: bool = False,
) -> dict[str, Tensor]:  # fmt: skip
    """Group name -> (N + 1,) divergence in nats with n = 0 ... N neurons of this group and all of the others.

    criterion  gives the path along which a group would be pruned
    reference  (M, C) logits of the unpruned network
    cache      curves of an earlier run, which are not computed again
    fisher     group name -> Fisher information at each reader's output, or None

    The pass that follows gathers every group's statistics again, for the groups before it are pruned by then.
    """
    curves: dict[str, Tensor] = {}
    activations = session.activation_cache()
    for group in progress_bar(groups, "sensitivity", show=progress):
        if len(cache.values.get(group.name, [])) != group.size + 1:
            evaluator = session.evaluator(
                group, activations, reference, fisher=fisher, reconstruct=session.config.repair.update_weights
            )
            path = criterion(evaluator, torch.Generator().manual_seed(0))
            cache.update({group.name: _curve(evaluator, path).tolist()})
        curves[group.name] = torch.tensor(cache.values[group.name], dtype=torch.float64)
    return curves


def _curve(evaluator: GroupEvaluator, path: PruningPath) -> Tensor:
    """Along one path the divergence is nearly proportional to the local error, so that a few n tell all: the logarithm
    of their ratio is interpolated. Where there are enough samples, those of the curve are held out of what the readers'
    weights are solved from."""
    N, M = path.size, evaluator.num_choosers
    held_out = torch.arange(M)[VAL_EVERY - 1 :: VAL_EVERY][:MAX_SAMPLES]
    enough = len(held_out) >= MIN_SAMPLES
    samples, split = (held_out, "train") if enough else (torch.arange(min(M, MAX_SAMPLES)), "all")
    local_errors = path.error_curve()
    errors = torch.ones(N, dtype=torch.float64)
    if local_errors is not None and float(local_errors.max()) > NO_ERROR:
        errors = local_errors.clamp_min(ROUNDING * float(local_errors.max()))
    widths = sorted({n for fraction in FRACTIONS if 1 <= (n := round(fraction * N)) < N})
    log_ratios = []
    for n in widths:
        divergence = evaluator.sample_discrepancy(samples, path.scale(n), split=split)
        divergence = divergence if math.isfinite(divergence) else NOT_FINITE
        log_ratios.append(math.log(max(divergence, MIN_DIVERGENCE)) - math.log(float(errors[n - 1])))
    interpolated = np.interp(np.arange(1, N + 1), widths, log_ratios) if widths else np.zeros(N)
    curve = torch.cat([torch.full((1,), torch.inf, dtype=torch.float64), errors * torch.from_numpy(interpolated).exp()])
    curve[N] = 0.0
    return curve.flip(0).cummax(0).values.flip(0)  # more neurons are never worse
