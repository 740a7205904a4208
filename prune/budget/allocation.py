"""How many neurons each group keeps so that the whole meets a budget at the least divergence: one price for all.

The paper prunes each layer by the same eps (Ye, Wu, Liu 2020, section 2.4). Here each group has a curve, the divergence
at the output that n neurons cause, and a neuron of every group is worth the same price per unit of cost: at a price p a
group keeps the n that minimises divergence(n) + p cost(n), and p is found by bisection (Lagrangian relaxation;
Shoham and Gersho 1988).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.prune.options import Budget


def allowed_widths(budget: Budget, size: int) -> Tensor:
    """The numbers of neurons that a group of N = `size` may keep, ascending."""
    n = torch.arange(1, size + 1)
    return n[((n % budget.round_to == 0) & (n >= budget.minimum)) | (n == size)]


class Costs(Protocol):
    """What widths cost."""

    sizes: dict[str, int]

    def __call__(self, widths: Mapping[str, int]) -> float:
        """The whole network's cost; a group that is not named is whole."""

    def along(self, widths: Mapping[str, int], group: str) -> Tensor:
        """(N + 1,) what n = 0 ... N neurons of one group add, while the others have these widths."""


def allocate(curves: Mapping[str, Tensor], costs: Costs, budget: Budget) -> dict[str, int]:
    """The widths of the groups in `curves` ((N + 1,) each, divergence in nats for n = 0 ... N) with the least sum of
    divergences that was found at a cost within the budget.

    Raises ZooError if even the narrowest network costs more.
    """
    allowed = {name: allowed_widths(budget, len(curve) - 1) for name, curve in curves.items()}
    whole = {name: len(curve) - 1 for name, curve in curves.items()}
    bound = budget.bound(costs({}))
    narrowest = {name: int(n[0]) for name, n in allowed.items()}
    if costs(narrowest) > bound:
        raise ZooError(
            f"A budget of {bound:.4g} {budget.kind} cannot be met: the narrowest network these groups allow takes "
            f"{costs(narrowest):.4g}, the unpruned one {costs({}):.4g}."
        )
    if costs({}) <= bound:
        return whole

    def at(price: float) -> dict[str, int]:
        widths = dict(whole)
        for _ in range(4):  # a neuron's cost depends on the widths of its neighbours
            before = dict(widths)
            for name, n in allowed.items():
                total = curves[name][n] + price * costs.along(widths, name)[n]
                widths[name] = int(n[total.argmin()])
            if widths == before:
                break
        return widths

    low, high = -40.0, 40.0  # logarithms of the price: 1e-17 to 1e17 nats
    best = narrowest
    for _ in range(60):
        middle = (low + high) / 2
        widths = at(math.exp(middle))
        if costs(widths) > bound:
            low = middle
        else:
            high, best = middle, widths
    return _improve(_fill(best, curves, costs, allowed, bound), curves, costs, allowed, bound)


def _improve(
    widths: dict[str, int], curves: Mapping[str, Tensor], costs: Costs, allowed: Mapping[str, Tensor], bound: float
) -> dict[str, int]:
    """One price misses widths off the curves' convex hull: as long as it helps, a group gives up its last neurons and
    the others spend what that frees."""

    def total(widths: Mapping[str, int]) -> float:
        return sum(float(curves[name][n]) for name, n in widths.items())

    least = total(widths)
    for _ in range(len(widths)):
        trials = []
        for name, n in allowed.items():
            below = n[n < widths[name]]
            if len(below):
                fewer = {**widths, name: int(below[-1])}
                trials.append(_fill(fewer, curves, costs, {k: v for k, v in allowed.items() if k != name}, bound))
        best = min(trials, key=total, default=widths)
        if not total(best) < least:
            break
        widths, least = best, total(best)
    return widths


def _fill(
    widths: dict[str, int], curves: Mapping[str, Tensor], costs: Costs, allowed: Mapping[str, Tensor], bound: float
) -> dict[str, int]:
    """Spend what the price left over: the next width of the group that gains most for its cost, while one fits."""
    widths = dict(widths)
    while True:
        best, gain = None, -1.0  # what costs nothing more to keep is kept, even where the curve is flat
        spent = costs(widths)
        for name, n in allowed.items():
            above = n[n > widths[name]]
            if not len(above):
                continue
            more = {**widths, name: int(above[0])}
            extra = costs(more) - spent
            fall = float(curves[name][widths[name]] - curves[name][more[name]])
            if spent + extra <= bound and fall / max(extra, 1e-12) > gain:
                best, gain = more, fall / max(extra, 1e-12)
        if best is None:
            return widths
        widths = best
