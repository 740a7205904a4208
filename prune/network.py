"""Global imitation (Ye, Wu, Liu 2020, section 2.2): greedy on the discrepancy at the network's output.

(`global` is a Python keyword, hence the file's name.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from zoo.prune.layer import Layer
from zoo.prune.paths import Path
from zoo.prune.search import Search


class Picks:
    """The neurons in the order they were picked; after k picks a_i = (times i was picked) / k, which is the update
    a <- (1 - gamma_k) a + gamma_k e_i with gamma_k = 1/(1+k) of equation (8)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.order: list[int] = []

    def counts(self, k: int | None = None) -> Tensor:
        return torch.bincount(torch.tensor(self.order[:k], dtype=torch.long), minlength=self.size).double()

    def scale(self, k: int | None = None) -> Tensor:
        """(N,) s = N a after the first k picks."""
        counts = self.counts(k)
        return counts * (self.size / counts.sum())

    def neurons(self, k: int | None = None) -> int:
        return len(set(self.order[:k]))

    def with_one_more(self, neurons: Tensor) -> Tensor:
        """(c, N) the scales after one more pick, for each of c neurons."""
        counts = self.counts().repeat(len(neurons), 1)
        counts[torch.arange(len(neurons)), neurons] += 1
        return counts * (self.size / (len(self.order) + 1))


def global_imitation(
    layer: Layer,
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
    picks = Picks(layer.size)
    if refine is not None or neurons is not None:
        wanted = layer.size if neurons is None else neurons
        # A neuron that the search never asks for is as good as removed, unless a number has to be reached.
        most = (2 if neurons is None else 64) * layer.size
        while picks.neurons() < wanted and len(picks.order) < most:
            _extend(picks, layer, search, start, generator)
        if neurons is None:
            assert eps is not None
            return layer.meet(_path(picks, refine, error), eps)
        return _path(picks, refine, error).scale(neurons) if picks.neurons() >= neurons else None
    assert eps is not None
    failed = 0  # the last number of picks that is taken to miss eps
    while True:
        k = len(picks.order)
        done = k >= 2 * layer.size or (k > 0 and picks.neurons() == layer.size)
        hint = -math.inf if done else _extend(picks, layer, search, start, generator)
        # The mini-batch on which the next step was chosen says when it is worth to ask the whole data.
        if k and hint < eps:
            if layer.compare(picks.scale(k))[0] < eps:
                return _first_that_passes(picks, layer, eps, failed, k)
            failed = k
        if done:
            return None


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
    rows[picks.neurons() :] = picks.scale()
    rows[N - 1] = 1.0
    return Path(rows, refine, error)


def _first_that_passes(picks: Picks, layer: Layer, eps: float, failed: int, passing: int) -> Tensor:
    """The scales at the smallest number of picks in (failed, passing] with a gap below eps, by bisection."""
    resolution = max(1, layer.size // 64)
    while passing - failed > resolution:
        middle = (failed + passing) // 2
        if layer.compare(picks.scale(middle))[0] < eps:
            passing = middle
        else:
            failed = middle
    return picks.scale(passing)


def _extend(picks: Picks, layer: Layer, search: Search, start: int, generator: torch.Generator) -> float:
    """One or more greedy steps. Returns the gap before them on the mini-batch that they were chosen on, infinite
    where it was not looked at."""
    if not picks.order and search.exact_until == 0:
        picks.order.append(start)
        return math.inf
    state, samples = layer.minibatch(generator)
    if not picks.order or picks.neurons() < search.exact_until:
        picks.order.append(_best(picks, layer, state, samples, torch.arange(layer.size)))
        return math.inf
    scale = picks.scale()
    gradient, gap = layer.gradient(state, samples, scale)
    # d D / d gamma of a step towards neuron i: sum_j (1[j = i] - a_j) N dD/ds_j; the most negative falls fastest.
    predicted = layer.size * gradient - (scale * gradient).sum()
    ranked = torch.argsort(predicted, stable=True)
    steps = int(search.refresh * len(picks.order))
    if steps > 1:
        picks.order.extend(ranked[:steps].tolist())
    else:
        picks.order.append(_best(picks, layer, state, samples, ranked[: search.candidates]))
    return gap


def _best(picks: Picks, layer: Layer, state: object, samples: Tensor, candidates: Tensor) -> int:
    """The candidate with the smallest discrepancy after one more pick, tried exactly."""
    return int(candidates[layer.try_on(state, samples, picks.with_one_more(candidates)).argmin()])
