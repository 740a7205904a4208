"""Global imitation (Ye, Wu, Liu 2020, section 2.2): greedy on the discrepancy at the network's output.

(`global` is a Python keyword, hence the file's name.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from zoo.prune.engine import GroupEvaluator
from zoo.prune.options import Search
from zoo.prune.path import Path
from zoo.prune.search.picks import Picks


def _queued(device: torch.device) -> int:
    """How many greedy steps are made between two looks at what was picked. A GPU is waited for at the looks alone; on a
    CPU nothing waits, and steps after the last one that is needed would be for nothing."""
    return 32 if device.type == "cuda" else 1


def global_imitation(
    layer: GroupEvaluator,
    *,
    search: Search,
    start: int,
    eps: float | None,
    neurons: int | None,
    generator: torch.Generator,
    refine: Callable[[Tensor], Tensor] | None = None,
    error: Callable[[Tensor], float] | None = None,
) -> Tensor | None:
    """Scales (N,) found by greedy global imitation, or None if no number of picks meets the goal.

    Goal: a gap below eps on the whole pruning data, at the smallest number of picks found; or exactly `neurons`
    neurons (then eps is None). Each gradient and each round of trials sees a fresh random mini-batch (algorithm 1).
    start: the first neuron where search.exact_until is 0.

    refine betters the scales of given neurons. Picks of equal weight 1/k are coarse (a neuron picked once and one
    picked twice differ by a factor of two, whatever they deserve), so without it a small eps is rarely met before
    every neuron is in; the paper's search as it stands is the one without. error gives the local discrepancy of
    scales, which says where along the picks to look for eps.
    """
    device = layer.target.reference.device
    picks, queued = Picks(layer.size, device), _queued(device)
    if refine is not None or neurons is not None:
        wanted = layer.size if neurons is None else neurons
        # A neuron that the search never asks for is as good as removed, unless a number has to be reached.
        most = (2 if neurons is None else 64) * layer.size
        while picks.neurons() < wanted and picks.made < most:
            hints = _extend(picks, layer, search, start, generator, queued, most)
            ends = [*(k for k, _ in hints[1:]), picks.made]
            picks.cut(next((k for k in ends if k >= most or picks.neurons(k) >= wanted), picks.made))
        if neurons is None:
            assert eps is not None
            return layer.smallest_within_eps(_path(picks, refine, error), eps, slack=search.slack)
        return _path(picks, refine, error).scale(neurons) if picks.neurons() >= neurons else None
    assert eps is not None
    failed = 0  # the last number of picks that is taken to miss eps
    while True:
        done = _all_in(picks, picks.made)
        hints = [(picks.made, -math.inf)]
        if not done:
            hints = _extend(picks, layer, search, start, generator, queued, 2 * layer.size)
        # The mini-batch on which the next step was chosen says when it is worth to ask the whole data.
        for k, hint in hints:
            last = _all_in(picks, k)
            if k and (last or hint < eps):
                gap = layer.gap_and_discrepancy(picks.scale(k))[0]
                if gap < eps:
                    near = (1 - search.slack) * eps if search.slack else eps
                    return picks.scale(k) if gap >= near else _first_that_passes(picks, layer, eps, failed, k, near)
                failed = k
            if last:
                return None


def _all_in(picks: Picks, k: int) -> bool:
    """Whether the search is over after k picks: every neuron is in, or it asks for the same ones again and again."""
    return k >= 2 * picks.size or (k > 0 and picks.neurons(k) == picks.size)


def _path(
    picks: Picks, refine: Callable[[Tensor], Tensor] | None, error: Callable[[Tensor], float] | None
) -> Path:
    """For every n the scales after the last pick that still has n neurons; where the picks have fewer, after all."""
    N = picks.size
    counts = torch.zeros(N, dtype=torch.float64)
    rows = torch.zeros(N, N, dtype=torch.float64)
    for neuron in picks.order:
        counts[neuron] += 1
        rows[int(torch.count_nonzero(counts)) - 1] = counts * (N / counts.sum())
    rows[picks.neurons() :] = picks.scale(len(picks.order))
    rows[N - 1] = 1.0
    return Path(rows, refine, error)


def _first_that_passes(picks: Picks, layer: GroupEvaluator, eps: float, failed: int, passing: int, near: float) -> Tensor:
    """The scales at the smallest number of picks in (failed, passing] with a gap below eps, by bisection; or at the
    first that it meets with a gap of `near` or more."""
    resolution = max(1, layer.size // 64)
    while passing - failed > resolution:
        middle = (failed + passing) // 2
        gap = layer.gap_and_discrepancy(picks.scale(middle))[0]
        failed, passing = (failed, middle) if gap < eps else (middle, passing)
        if near <= gap < eps:
            break
    return picks.scale(passing)


def _extend(
    picks: Picks, layer: GroupEvaluator, search: Search, start: int, generator: torch.Generator, queued: int, most: int
) -> list[tuple[int, float]]:
    """Up to `queued` times one or more greedy steps, until there are `most` picks, and then a look at what was picked.

    Returns for each time the number of picks before it, and the gap with them on the mini-batch that it was chosen on,
    infinite where that was not looked at.
    """
    before: list[int] = []
    gaps: list[Tensor] = []
    infinite = torch.full((), math.inf, dtype=torch.float64, device=layer.target.reference.device)
    for _ in range(queued):
        if before and (picks.made >= most or picks.neurons() < search.exact_until):
            break  # how the next step searches depends on how many neurons there are
        before.append(picks.made)
        gap = _step(picks, layer, search, start, generator)
        gaps.append(infinite if gap is None else gap)
    picks.look()
    return list(zip(before, torch.stack(gaps).tolist(), strict=True))


def _step(picks: Picks, layer: GroupEvaluator, search: Search, start: int, generator: torch.Generator) -> Tensor | None:
    """One or more greedy steps, in which nothing waits for the device; the gap (scalar) before them on their
    mini-batch, if it was looked at."""
    device = layer.target.reference.device
    if not picks.made and search.exact_until == 0:
        picks.add(torch.full((1,), start, device=device))
        return None
    state, samples = layer.minibatch(generator)
    if not picks.made or picks.neurons() < search.exact_until:
        picks.add(_best(picks, layer, state, samples, torch.arange(layer.size, device=device)))
        return None
    scale = picks.scale()
    gradient, gap = layer.gradient(state, samples, scale)
    # d D / d gamma of a step towards neuron i: sum_j (1[j = i] - a_j) N dD/ds_j; the most negative falls fastest.
    predicted = layer.size * gradient - (scale * gradient).sum()
    ranked = torch.argsort(predicted, stable=True)
    steps = int(search.refresh * picks.made)
    picks.add(ranked[:steps] if steps > 1 else _best(picks, layer, state, samples, ranked[: search.candidates]))
    return gap


def _best(picks: Picks, layer: GroupEvaluator, state: object, samples: Tensor, candidates: Tensor) -> Tensor:
    """(1,) the candidate with the smallest discrepancy after one more pick, tried exactly."""
    tried = layer.batched_candidate_losses(state, samples, picks.with_one_more(candidates))
    return candidates.index_select(0, tried.argmin().view(1))
