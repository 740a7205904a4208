"""A budget for methods that go by a tolerance: one eps for all layers (Ye, Wu, Liu 2020, section 2.4) that meets it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from zoo.errors import ZooError

FIRST = 0.02  # the paper's
STEP = 4.0  # from one eps to the next, until there is one on either side of the budget
NEAR = 0.95  # of the budget: near enough; costs move in steps, and now and then the wrong way
CLOSE = 1.02  # two eps as close as that are one: costs between them are noise
FLAT = 4  # so many of the smallest eps cost the same: a smaller one keeps no more
TRIES = 16


def eps_within(cost: Callable[[float], float], bound: float, known: Mapping[float, float] | None = None) -> float:
    """An eps, to three digits, whose network costs at most `bound`: the dearest such network that was found, and the
    search ends with the first that costs at least 0.95 of it.

    cost(eps) is taken to fall as eps grows, mostly; `known` are costs that an earlier search has found, which are not
    asked for again: what comes out is the same without them. Raises ZooError where no eps that was tried is within the
    bound.
    """
    seen: dict[float, float] = {}
    for _ in range(TRIES):
        if any(NEAR * bound <= value <= bound for value in seen.values()):
            break
        eps = _next(seen, bound)
        if eps is None or eps in seen:
            break
        seen[eps] = known[eps] if known and eps in known else cost(eps)
    within = [each for each, value in seen.items() if value <= bound]
    if not within:
        raise ZooError(
            f"No eps up to {max(seen):g} brings the network down to {bound:.4g}: ask for more, or take a method that "
            f"allots neurons under one price, such as repaired or local."
        )
    return max(within, key=lambda each: (seen[each], -each))


def _next(seen: Mapping[float, float], bound: float) -> float | None:
    """The eps to try behind those seen, or None where another would tell nothing."""
    if not seen:
        return FIRST
    values, smallest = list(seen.values()), sorted(seen)[:FLAT]
    high = min((each for each in seen if seen[each] <= bound), default=None)
    if high is None:
        return max(seen) * STEP
    low = max((each for each in seen if seen[each] > bound and each < high), default=None)
    if low is None:
        flat = len(smallest) == FLAT and len({seen[each] for each in smallest}) == 1
        return None if flat else float(f"{smallest[0] / STEP:.3g}")
    if high < CLOSE * low:
        return None
    # Where a straight line between the two, over the logarithm of eps, meets what is wanted, never at an end; in the
    # middle where costs go in steps.
    part = (seen[low] - (1 + NEAR) / 2 * bound) / (seen[low] - seen[high])
    part = 0.5 if max(values.count(seen[low]), values.count(seen[high])) > 1 else min(max(part, 0.1), 0.9)
    return float(f"{math.exp((1 - part) * math.log(low) + part * math.log(high)):.3g}")
