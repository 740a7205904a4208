"""Which neurons to keep when the readers' weights are solved for them: stepwise selection, refined by swaps.

Forward selection is simultaneous orthogonal matching pursuit (Tropp, Gilbert, Strauss 2006, Algorithms for Simultaneous
Sparse Approximation, part I) on blocks of columns. Backward elimination is a structured optimal brain surgeon (Hassibi
and Stork 1993, Second Order Derivatives for Network Pruning). Either gives a set for every number of neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.prune.reconstruct.pivoted_cholesky import PivotedCholesky
from zoo.prune.reconstruct.sweep_operator import QuadraticProblem, SweepTableau

COMPACT_BELOW = 0.9  # past pivots are dropped from the factorisation when at most this fraction of it is left
MAX_SWAPS = 16


@dataclass(frozen=True, eq=False)
class SubsetPath:
    """Which n neurons to keep, and the error that is left, for every n.

    order   (N,) the neurons from the most to the least needed; the first n are kept
    errors  (N + 1,) the error with n = 0 ... N neurons after the readers' weights are solved
    """

    order: Tensor
    errors: Tensor

    def kept(self, n: int) -> Tensor:
        """(N,) bool, which neurons are kept when n are."""
        inside = torch.zeros(len(self.order), dtype=torch.bool)
        inside[self.order[:n]] = True
        return inside


def stepwise_selection(
    problems: Sequence[QuadraticProblem], error_of_none: float, direction: str = "backward"
) -> SubsetPath:
    """The subsets of every size along one greedy direction.

    problems       of each reader of the group; their errors are added
    error_of_none  the error with no neuron
    direction      forward adds, one by one, the neuron that lowers the error most; backward removes, one by one, the
                   neuron that raises it least
    """
    backward = direction == "backward"
    factors = [PivotedCholesky(*problem, backward=backward) for problem in problems]
    N = factors[0].size
    neurons = torch.arange(N)  # those still in the factorisations
    is_free = torch.ones(N, dtype=torch.bool)  # of `neurons`, those that have not been pivots
    order, changes = [], []
    for _ in range(N):
        if int(is_free.sum()) <= COMPACT_BELOW * len(is_free):
            free = is_free.nonzero().squeeze(1)
            for factor in factors:
                factor.keep_only(free.to(factor.T.device))
            neurons, is_free = neurons[free], is_free[free]
        change = total_error_change(factors)
        change[~is_free] = torch.inf if backward else -torch.inf
        i = int(change.argmin() if backward else change.argmax())
        order.append(int(neurons[i]))
        changes.append(float(change[i]))
        is_free[i] = False
        for factor in factors:
            factor.pivot(i)
    if backward:
        order.reverse()
        changes.reverse()
    falls = torch.tensor(changes, dtype=torch.float64).cumsum(0)
    errors = torch.cat([torch.zeros(1, dtype=torch.float64), -falls]) + error_of_none
    return SubsetPath(torch.tensor(order), errors.clamp_min(0))


def swap_refinement(problems: Sequence[QuadraticProblem], kept: Tensor) -> tuple[Tensor, float]:
    """A set of as many neurons as `kept` (N,) bool with a lower error, and by how much the error is lower.

    As long as that lowers the error, the kept neuron that is needed least is replaced by the one that helps most in its
    place, at most MAX_SWAPS times.
    """
    tableaus = [SweepTableau(*problem) for problem in problems]
    for tableau in tableaus:
        tableau.sweep_in(kept)
    inside, total_gain = kept.clone(), 0.0
    for _ in range(MAX_SWAPS):
        removed = int(total_error_change(tableaus).masked_fill(~inside, torch.inf).argmin())
        for tableau in tableaus:
            tableau.sweep(removed)
        inside[removed] = False
        change = total_error_change(tableaus).masked_fill(inside, -torch.inf)
        best = int(change.argmax())
        gain = float(change[best] - change[removed])
        improves = gain > 1e-9 * float(change[removed])
        added = best if improves else removed
        for tableau in tableaus:
            tableau.sweep(added)
        inside[added] = True
        if not improves:
            break
        total_gain += gain
    return inside, total_gain


def total_error_change(problems: Sequence[SweepTableau | PivotedCholesky]) -> Tensor:
    """(N,) the sum of the readers' error changes, on the CPU."""
    total = problems[0].error_change()
    for problem in problems[1:]:
        total = total + problem.error_change()
    return total.cpu()
