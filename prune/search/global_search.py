"""Global imitation (Ye, Wu, Liu 2020, section 2.2): greedy on the discrepancy at the network's output."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from zoo.prune.engine import GroupEvaluator
from zoo.prune.options import Search
from zoo.prune.path import PruningPath


class PickCounts:
    """How often each neuron was picked, and in which order.

    After k picks a_i = (times i was picked) / k, which is the update a <- (1 - gamma_k) a + gamma_k e_i with
    gamma_k = 1/(1+k) of equation (8). The counts are kept on the device of the network, so that `add`, `scale()` and
    `with_one_more` never wait for it. `order`, and everything that takes a number of picks k, know the picks up to the
    last `sync`.
    """

    def __init__(self, size: int, device: torch.device | str = "cpu") -> None:
        self.size = size
        self.order: list[int] = []
        self.num_picks = 0
        self._counts = torch.zeros(size, dtype=torch.float64, device=device)
        self._pending: list[Tensor] = []

    def add(self, neurons: Tensor) -> None:
        """Pick neurons (c,), one after another."""
        self._counts.index_add_(0, neurons, torch.ones_like(neurons, dtype=torch.float64))
        self._pending.append(neurons)
        self.num_picks += len(neurons)

    def sync(self) -> None:
        """Copy the picks into `order`; waits for the device."""
        if self._pending:
            self.order.extend(torch.cat(self._pending).tolist())
            self._pending = []

    def truncate(self, k: int) -> None:
        """Undo all but the first k picks."""
        self.sync()
        if k < self.num_picks:
            self.order, self.num_picks = self.order[:k], k
            self._counts = self._count(k).to(self._counts.device)

    def scale(self, k: int | None = None) -> Tensor:
        """s = N a (N,) after the first k picks, on the CPU; without k after all picks, on the device."""
        counts, picks = (self._counts, self.num_picks) if k is None else (self._count(k), k)
        return counts * (self.size / picks)

    def neurons(self, k: int | None = None) -> int:
        """The number of different neurons among the first k picks."""
        return len(set(self.order[:k]))

    def with_one_more(self, neurons: Tensor) -> Tensor:
        """(c, N) the scales after one more pick, for each of c candidates."""
        counts = self._counts.repeat(len(neurons), 1)
        rows = torch.arange(len(neurons), device=neurons.device)
        counts.index_put_((rows, neurons), torch.ones_like(rows, dtype=torch.float64), accumulate=True)
        return counts * (self.size / (self.num_picks + 1))

    def exhausted(self, k: int) -> bool:
        """Whether the search is over after k picks: every neuron was picked, or the same ones again and again."""
        return k >= 2 * self.size or (k > 0 and self.neurons(k) == self.size)

    def path(
        self, refine: Callable[[Tensor], Tensor] | None, local_error: Callable[[Tensor], float] | None
    ) -> PruningPath:
        """For every n the scales after the last pick that still has n neurons; above the number of neurons picked, the
        scales after all picks."""
        N = self.size
        counts = torch.zeros(N, dtype=torch.float64)
        rows = torch.zeros(N, N, dtype=torch.float64)
        for neuron in self.order:
            counts[neuron] += 1
            rows[int(torch.count_nonzero(counts)) - 1] = counts * (N / counts.sum())
        rows[self.neurons() :] = self.scale(len(self.order))
        rows[N - 1] = 1.0
        return PruningPath(rows, refine, local_error)

    def _count(self, k: int) -> Tensor:
        return torch.bincount(torch.tensor(self.order[:k], dtype=torch.long), minlength=self.size).double()


def _steps_per_sync(device: torch.device) -> int:
    """How many greedy steps are made between two synchronisations. Only these wait for a GPU; on a CPU nothing waits,
    and steps beyond the last one needed would be wasted."""
    return 32 if device.type == "cuda" else 1


def global_imitation(
    evaluator: GroupEvaluator,
    *,
    search: Search,
    start: int,
    eps: float | None,
    neurons: int | None,
    generator: torch.Generator,
    refine: Callable[[Tensor], Tensor] | None = None,
    local_error: Callable[[Tensor], float] | None = None,
) -> Tensor | None:
    """Scales (N,) from greedy global imitation, or None if no number of picks meets the goal.

    The goal is a gap below eps on the whole pruning data, at the smallest number of picks found; or exactly `neurons`
    neurons (then eps is None). Each gradient and each round of exact trials uses a fresh random mini-batch
    (algorithm 1).

    start        the first neuron where search.exhaustive_below is 0
    refine       improves the scales of a set of neurons. Equal weights 1/k are coarse (a neuron picked once and one
                 picked twice differ by a factor of two), so without it a small eps is rarely met before every neuron is
                 picked; the search of the paper has none
    local_error  the local discrepancy of scales, which tells where along the picks to evaluate the gap
    """
    device = evaluator.target.reference.device
    picks, per_sync = PickCounts(evaluator.size, device), _steps_per_sync(device)
    if refine is not None or neurons is not None or search.round_to != 1:
        enough = evaluator.size if neurons is None else neurons
        # A neuron that the search never picks may as well be removed, unless a number has to be reached.
        max_picks = (2 if neurons is None else 64) * evaluator.size
        while picks.neurons() < enough and picks.num_picks < max_picks:
            gaps = _extend(picks, evaluator, search, start, generator, per_sync, max_picks)
            ends = [*(k for k, _ in gaps[1:]), picks.num_picks]
            picks.truncate(next((k for k in ends if k >= max_picks or picks.neurons(k) >= enough), picks.num_picks))
        if neurons is None:
            assert eps is not None
            return evaluator.smallest_within_eps(picks.path(refine, local_error), eps)
        return picks.path(refine, local_error).scale(neurons) if picks.neurons() >= neurons else None
    assert eps is not None
    return _first_below_eps(picks, evaluator, search, start, generator, per_sync, eps)


def _first_below_eps(
    picks: PickCounts, evaluator: GroupEvaluator, search: Search, start: int, generator: torch.Generator,
    per_sync: int, eps: float,
) -> Tensor | None:  # fmt: skip
    """The search of the paper: the scales at the smallest number of picks found with a gap below eps."""
    failing = 0  # the largest number of picks that is taken to miss eps
    while True:
        gaps = [(picks.num_picks, -math.inf)]
        if not picks.exhausted(picks.num_picks):
            gaps = _extend(picks, evaluator, search, start, generator, per_sync, 2 * evaluator.size)
        # The gap on the mini-batch of the next step tells when it is worth to evaluate the whole data.
        for k, minibatch_gap in gaps:
            last = picks.exhausted(k)
            if k and (last or minibatch_gap < eps):
                gap = evaluator.exact_gap(picks.scale(k))
                if gap < eps:
                    near = (1 - search.eps_tolerance) * eps if search.eps_tolerance else eps
                    return picks.scale(k) if gap >= near else _bisect(picks, evaluator, eps, failing, k, near)
                failing = k
            if last:
                return None


def _bisect(
    picks: PickCounts, evaluator: GroupEvaluator, eps: float, failing: int, passing: int, near: float
) -> Tensor:
    """By bisection, the scales at the smallest number of picks in (failing, passing] with a gap below eps; the search
    ends early at a gap from `near` to eps."""
    resolution = max(1, evaluator.size // 64)
    while passing - failing > resolution:
        middle = (failing + passing) // 2
        gap = evaluator.exact_gap(picks.scale(middle))
        failing, passing = (failing, middle) if gap < eps else (middle, passing)
        if near <= gap < eps:
            break
    return picks.scale(passing)


def _extend(
    picks: PickCounts, evaluator: GroupEvaluator, search: Search, start: int, generator: torch.Generator,
    per_sync: int, max_picks: int,
) -> list[tuple[int, float]]:  # fmt: skip
    """Up to `per_sync` greedy steps, until there are `max_picks` picks, and then one synchronisation.

    Returns for each step the number of picks before it, and the gap of these picks on the step's mini-batch: infinite
    where the step computes none.
    """
    before: list[int] = []
    gaps: list[Tensor] = []
    infinite = torch.full((), math.inf, dtype=torch.float64, device=evaluator.target.reference.device)
    for _ in range(per_sync):
        if before and (picks.num_picks >= max_picks or picks.neurons() < search.exhaustive_below):
            break  # how the next step searches depends on the number of neurons
        before.append(picks.num_picks)
        gap = _step(picks, evaluator, search, start, generator)
        gaps.append(infinite if gap is None else gap)
    picks.sync()
    return list(zip(before, torch.stack(gaps).tolist(), strict=True))


def _step(
    picks: PickCounts, evaluator: GroupEvaluator, search: Search, start: int, generator: torch.Generator
) -> Tensor | None:
    """One greedy step (several picks where one gradient serves them), which never waits for the device. Returns the gap
    (scalar) before the step on its mini-batch, or None where no gradient was taken."""
    device = evaluator.target.reference.device
    if not picks.num_picks and search.exhaustive_below == 0:
        picks.add(torch.full((1,), start, device=device))
        return None
    state, samples = evaluator.minibatch(generator)
    if not picks.num_picks or picks.neurons() < search.exhaustive_below:
        picks.add(_best(picks, evaluator, state, samples, torch.arange(evaluator.size, device=device)))
        return None
    scale = picks.scale()
    gradient, gap = evaluator.gradient(state, samples, scale)
    # dD/dgamma of a step towards neuron i: sum_j (1[j = i] - a_j) N dD/ds_j; the most negative one falls fastest.
    slope = evaluator.size * gradient - (scale * gradient).sum()
    ranked = torch.argsort(slope, stable=True)
    steps = int(search.gradient_reuse * picks.num_picks)
    if steps > 1:
        picks.add(ranked[:steps])
    else:
        picks.add(_best(picks, evaluator, state, samples, ranked[: search.topk_candidates]))
    return gap


def _best(
    picks: PickCounts, evaluator: GroupEvaluator, state: object, samples: Tensor, candidates: Tensor
) -> Tensor:
    """(1,) the candidate with the smallest discrepancy on the mini-batch after one more pick."""
    losses = evaluator.batched_candidate_losses(state, samples, picks.with_one_more(candidates))
    return candidates.index_select(0, losses.argmin().view(1))
