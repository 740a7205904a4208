"""How many neurons each group keeps so that the network meets a budget with the least divergence.

The paper prunes each group by the same eps (Ye, Wu, Liu 2020, section 2.4). Here each group has a sensitivity curve
D_g(n), the divergence at the output when it keeps n neurons, and the sum of these is minimised under the budget by
Lagrangian relaxation (Shoham and Gersho 1988): for a multiplier lambda each group keeps the n that minimises

    D_g(n) + lambda cost_g(n)

and lambda is found by bisection, the smallest with which the network is within the budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.prune.budget.costs import Costs
from zoo.prune.options import Budget
from zoo.prune.path import allowed_widths

BISECTIONS = 60
LOG_MULTIPLIER = 40.0  # multipliers from e^-40 to e^40, about 1e-17 to 1e17 nats per unit of cost
ROUNDS = 4  # of updating widths one group after another, for a neuron's cost depends on the widths of other groups


def allocate(
    curves: Mapping[str, Tensor], costs: Costs, budget: Budget, round_to: int | None = 1
) -> dict[str, int]:
    """The widths of the groups in `curves` with the smallest sum of divergences that was found within the budget.

    curves    group name -> (N + 1,) divergence in nats with n = 0 ... N neurons
    round_to  of all widths (`zoo.prune.path.allowed_widths`)

    Raises ZooError if even the narrowest network costs more than the budget allows.
    """
    allowed = {
        name: torch.tensor(allowed_widths(len(curve) - 1, round_to, budget.minimum)) for name, curve in curves.items()
    }
    unpruned = {name: len(curve) - 1 for name, curve in curves.items()}
    bound = budget.bound(costs({}))
    narrowest = {name: int(n[0]) for name, n in allowed.items()}
    if costs(narrowest) > bound:
        raise ZooError(
            f"A budget of {bound:.4g} {budget.kind} cannot be met: the narrowest network these groups allow takes "
            f"{costs(narrowest):.4g}, the unpruned one {costs({}):.4g}."
        )
    if costs({}) <= bound:
        return unpruned

    def widths_at(multiplier: float) -> dict[str, int]:
        widths = dict(unpruned)
        for _ in range(ROUNDS):
            before = dict(widths)
            for name, n in allowed.items():
                total = curves[name][n] + multiplier * costs.cost_curve(name, widths)[n]
                widths[name] = int(n[total.argmin()])
            if widths == before:
                break
        return widths

    low, high = -LOG_MULTIPLIER, LOG_MULTIPLIER
    best = narrowest
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        widths = widths_at(math.exp(middle))
        if costs(widths) > bound:
            low = middle
        else:
            high, best = middle, widths
    return _exchange(_spend_remaining_budget(best, curves, costs, allowed, bound), curves, costs, allowed, bound)


def _exchange(
    widths: dict[str, int], curves: Mapping[str, Tensor], costs: Costs, allowed: Mapping[str, Tensor], bound: float
) -> dict[str, int]:
    """Greedy exchange: as long as the sum of divergences falls, one group takes its next smaller width, and the cost
    that this frees goes to the others. Lagrangian relaxation alone reaches only widths on the curves' convex hulls."""

    def total(widths: Mapping[str, int]) -> float:
        return sum(float(curves[name][n]) for name, n in widths.items())

    least = total(widths)
    for _ in range(len(widths)):
        trials = []
        for name, n in allowed.items():
            smaller_widths = n[n < widths[name]]
            if len(smaller_widths):
                candidate = {**widths, name: int(smaller_widths[-1])}
                others = {other: allowed[other] for other in allowed if other != name}
                trials.append(_spend_remaining_budget(candidate, curves, costs, others, bound))
        best = min(trials, key=total, default=widths)
        if not total(best) < least:
            break
        widths, least = best, total(best)
    return widths


def _spend_remaining_budget(
    widths: dict[str, int], curves: Mapping[str, Tensor], costs: Costs, allowed: Mapping[str, Tensor], bound: float
) -> dict[str, int]:
    """Spend the remaining budget greedily: as long as one fits, take the next larger width of the group whose
    divergence falls most for its cost."""
    widths = dict(widths)
    while True:
        best, best_gain = None, -1.0  # so that neurons without a cost are kept even where the curve is flat
        cost = costs(widths)
        for name, n in allowed.items():
            larger_widths = n[n > widths[name]]
            if not len(larger_widths):
                continue
            candidate = {**widths, name: int(larger_widths[0])}
            extra = costs(candidate) - cost
            gain = float(curves[name][widths[name]] - curves[name][candidate[name]]) / max(extra, 1e-12)
            if cost + extra <= bound and gain > best_gain:
                best, best_gain = candidate, gain
        if best is None:
            return widths
        widths = best
