"""A budget met by one eps for all groups (Ye, Wu, Liu 2020, section 2.4), for methods that rank no neurons."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from zoo.errors import ZooError
from zoo.prune.budget.costs import Costs
from zoo.prune.resume import CacheFile

FIRST_EPS = 0.02  # the paper's
STEP = 4.0  # from one eps to the next, until there is one on either side of the bound
NEAR = 0.95  # of the bound: a cost from here up ends the search, for costs move in steps, now and then the wrong way
CLOSE = 1.02  # two eps with a smaller ratio are not told apart: costs between them are noise
FLAT = 4  # where so many of the smallest eps cost the same, a smaller one keeps no more neurons
MAX_TRIALS = 16


class EpsTrials:
    """The cost of the network that each eps gives, and the widths in a file for the next budget.

    costs   what widths cost
    groups  names of the groups that are pruned
    cache   eps -> the number of neurons of each of these groups
    """

    def __init__(self, costs: Costs, groups: Sequence[str], cache: CacheFile) -> None:
        self.costs, self.groups, self.cache = costs, list(groups), cache

    def cached_costs(self) -> dict[float, float]:
        """eps -> the cost of the network that an earlier run found; nothing of a file that says what no run found."""
        try:
            return {float(eps): self._cost(widths) for eps, widths in self.cache.values.items()}
        except (ValueError, OverflowError):
            return {}

    def add(self, eps: float, widths: Mapping[str, int]) -> float:
        """Store the widths that eps gave; their cost."""
        row = [float(widths[name]) for name in self.groups]
        self.cache.update({f"{eps:g}": row})
        return self._cost(row)

    def _cost(self, row: Sequence[float]) -> float:
        return self.costs({name: int(n) for name, n in zip(self.groups, row, strict=True)})


def find_eps(cost: Callable[[float], float], bound: float, cached: Mapping[float, float] | None = None) -> float:
    """The eps, to three digits, of the most expensive network that was tried and costs at most `bound`; the search ends
    with the first that costs at least 0.95 of the bound.

    cost    of the network that an eps gives; assumed to fall as eps grows, mostly
    cached  eps -> cost from an earlier search, which are not computed again; the result does not depend on them

    Raises ZooError where no eps that was tried is within the bound.
    """
    tried: dict[float, float] = {}
    for _ in range(MAX_TRIALS):
        if any(NEAR * bound <= value <= bound for value in tried.values()):
            break
        eps = _next_eps(tried, bound)
        if eps is None or eps in tried:
            break
        tried[eps] = cached[eps] if cached and eps in cached else cost(eps)
    within = [eps for eps, value in tried.items() if value <= bound]
    if not within:
        raise ZooError(
            f"No eps up to {max(tried):g} brings the network down to {bound:.4g}: ask for more, or take a method that "
            f"ranks neurons, such as repaired or local."
        )
    return max(within, key=lambda eps: (tried[eps], -eps))


def _next_eps(tried: Mapping[float, float], bound: float) -> float | None:
    """The eps to try next, or None where another would tell nothing.

    First by factors of STEP until the bound is bracketed; then where a straight line between the two costs, over the
    logarithm of eps, meets the middle of the costs that end the search.
    """
    if not tried:
        return FIRST_EPS
    values, smallest = list(tried.values()), sorted(tried)[:FLAT]
    high = min((eps for eps in tried if tried[eps] <= bound), default=None)
    if high is None:
        return max(tried) * STEP
    low = max((eps for eps in tried if tried[eps] > bound and eps < high), default=None)
    if low is None:
        flat = len(smallest) == FLAT and len({tried[eps] for eps in smallest}) == 1
        return None if flat else float(f"{smallest[0] / STEP:.3g}")
    if high < CLOSE * low:
        return None
    # Never at an end of the bracket; in its middle where costs go in steps.
    fraction = (tried[low] - (1 + NEAR) / 2 * bound) / (tried[low] - tried[high])
    stepped = max(values.count(tried[low]), values.count(tried[high])) > 1
    fraction = 0.5 if stepped else min(max(fraction, 0.1), 0.9)
    return float(f"{math.exp((1 - fraction) * math.log(low) + fraction * math.log(high)):.3g}")
