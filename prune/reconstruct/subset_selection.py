"""Which neurons to keep when the readers are solved anew for them: two greedy directions, and exchanges.

Letting neurons in is simultaneous orthogonal matching pursuit (Tropp, Gilbert, Strauss 2006) on blocks of columns;
taking them out is structured optimal brain surgeon (Hassibi and Stork 1993). Both give every n of a path.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.prune.reconstruct.pivoted_cholesky import PivotedCholesky
from zoo.prune.reconstruct.sweep_operator import SweepTableau

COMPACT_BELOW = 0.9  # a neuron that has moved does not move again: it is forgotten when so few are left
MAX_SWAPS = 16
Problem = tuple[Tensor, Tensor, int, Tensor]


class SubsetPath:
    """For every n, which neurons to keep, and the error that is left.

    order   (N,) the neurons from the most to the least needed; the first n are kept
    errors  (N + 1,) the error with the first n, n = 0 ... N, the readers solved anew
    """

    def __init__(self, order: Tensor, errors: Tensor) -> None:
        self.order, self.errors = order, errors

    def kept(self, n: int) -> Tensor:
        """(N,) bool"""
        inside = torch.zeros(len(self.order), dtype=torch.bool)
        inside[self.order[:n]] = True
        return inside


def stepwise_selection(problems: Sequence[Problem], none: float, direction: str = "backward") -> SubsetPath:
    """The path over every n of a group.

    problems   (A, B, m, saving) of each reader (`Tableau`); their errors are added
    none       the error with no neuron
    direction  forward lets in, one by one, the neuron that lowers the error most; backward starts with all and takes
               out the one that raises it least
    """
    backward = direction == "backward"
    pivots = [PivotedCholesky(*problem, backward=backward) for problem in problems]
    N = pivots[0].size
    names = torch.arange(N)  # of the neurons that are still held
    free = torch.ones(N, dtype=torch.bool)
    order, changes = [], []
    for _ in range(N):
        if int(free.sum()) <= COMPACT_BELOW * len(free):
            stay = free.nonzero().squeeze(1)
            for each in pivots:
                each.keep_only(stay.to(each.T.device))
            names, free = names[stay], free[stay]
        change = total_error_change(pivots)
        change[~free] = torch.inf if backward else -torch.inf
        i = int(change.argmin() if backward else change.argmax())
        order.append(int(names[i]))
        changes.append(float(change[i]))
        free[i] = False
        for each in pivots:
            each.move(i)
    if backward:
        order.reverse()
        changes.reverse()
    fall = torch.tensor(changes, dtype=torch.float64).cumsum(0)
    errors = torch.cat([torch.zeros(1, dtype=torch.float64), -fall]) + none
    return SubsetPath(torch.tensor(order), errors.clamp_min(0))


def swap_refinement(
    problems: Sequence[Problem], kept: Tensor, *, most: int = MAX_SWAPS
) -> tuple[Tensor, float]:
    """A set of as many neurons with a lower error, and by how much it is lower: as long as it helps, the neuron inside
    that is needed least gives way to the one outside that then helps most, at most `most` times. kept (N,) bool."""
    tableaus = [SweepTableau(*problem) for problem in problems]
    for tableau in tableaus:
        tableau.put(kept)
    inside, gained = kept.clone(), 0.0
    for _ in range(most):
        out = int(total_error_change(tableaus).masked_fill(~inside, torch.inf).argmin())
        for tableau in tableaus:
            tableau.move(out)
        inside[out] = False
        change = total_error_change(tableaus).masked_fill(inside, -torch.inf)
        best = int(change.argmax())
        gain = float(change[best] - change[out])
        better = gain > 1e-9 * float(change[out])
        for tableau in tableaus:
            tableau.move(best if better else out)
        inside[best if better else out] = True
        if not better:
            break
        gained += gain
    return inside, gained


def total_error_change(problems: Sequence[SweepTableau | PivotedCholesky]) -> Tensor:
    """(N,) the readers' changes together, on the CPU."""
    total = problems[0].change()
    for each in problems[1:]:
        total = total + each.change()
    return total.cpu()
