"""Which neurons to keep when the readers are solved anew for them: two greedy directions, and exchanges.

Letting neurons in is simultaneous orthogonal matching pursuit (Tropp, Gilbert, Strauss 2006) on blocks of columns;
taking them out is structured optimal brain surgeon (Hassibi and Stork 1993). Both give every n of a path.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.prune.repair.sweep import Tableau

DIRECTIONS = ("backward", "forward")
Problem = tuple[Tensor, Tensor, int, Tensor]


class Sets:
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


def search(problems: Sequence[Problem], none: float, direction: str = "backward") -> Sets:
    """The path over every n of a group.

    problems   (A, B, m, saving) of each reader (`Tableau`); their errors are added
    none       the error with no neuron
    direction  forward lets in, one by one, the neuron that lowers the error most; backward starts with all and takes
               out the one that raises it least
    """
    tableaus = [Tableau(*problem) for problem in problems]
    N = tableaus[0].size
    if direction == "backward":
        for tableau in tableaus:
            tableau.put(torch.ones(N, dtype=torch.bool))
    order, changes = [], []
    free = torch.ones(N, dtype=torch.bool)
    for _ in range(N):
        change = total_change(tableaus)
        change[~free] = torch.inf if direction == "backward" else -torch.inf
        i = int(change.argmin() if direction == "backward" else change.argmax())
        order.append(i)
        changes.append(float(change[i]))
        free[i] = False
        for tableau in tableaus:
            tableau.move(i)
    if direction == "backward":
        order.reverse()
        changes.reverse()
    fall = torch.tensor(changes, dtype=torch.float64).cumsum(0)
    errors = torch.cat([torch.zeros(1, dtype=torch.float64), -fall]) + none
    return Sets(torch.tensor(order), errors.clamp_min(0))


def exchange(
    problems: Sequence[Problem], kept: Tensor, *, most: int | None = None
) -> tuple[Tensor, float]:
    """A set of as many neurons with a lower error, and by how much it is lower: as long as it helps, the neuron inside
    that is needed least gives way to the one outside that then helps most. kept (N,) bool; at most `most` times, N
    unless given."""
    tableaus = [Tableau(*problem) for problem in problems]
    for tableau in tableaus:
        tableau.put(kept)
    inside, gained = kept.clone(), 0.0
    for _ in range(len(kept) if most is None else most):
        out = int(total_change(tableaus).masked_fill(~inside, torch.inf).argmin())
        for tableau in tableaus:
            tableau.move(out)
        inside[out] = False
        change = total_change(tableaus).masked_fill(inside, -torch.inf)
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


def total_change(tableaus: Sequence[Tableau]) -> Tensor:
    total = tableaus[0].change()
    for tableau in tableaus[1:]:
        total = total + tableau.change()
    return total.cpu()
