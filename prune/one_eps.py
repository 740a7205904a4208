"""A budget for methods that go by a tolerance: one eps for all layers (Ye, Wu, Liu 2020, section 2.4) that meets it."""

from __future__ import annotations

import math
from collections.abc import Callable

from zoo.errors import ZooError

FIRST = 0.02  # the paper's
STEP = 4.0  # from one eps to the next, until there is one on either side of the budget
NEAR = 0.95  # of the budget: near enough; costs move in steps, and now and then the wrong way
CLOSE = 1.05  # two eps as close as that are one
TRIES = 12


def eps_within(cost: Callable[[float], float], bound: float) -> float:
    """An eps, to three digits, whose network costs at most `bound`: the dearest such network that was found, and the
    search ends with the first that costs at least 0.95 of it.

    cost(eps) is taken to fall as eps grows, mostly. Raises ZooError where no eps that was tried is within the bound.
    """
    seen: dict[float, float] = {}
    eps = FIRST
    while len(seen) < TRIES and eps not in seen:
        seen[eps] = cost(eps)
        if NEAR * bound <= seen[eps] <= bound:
            return eps
        within = [each for each, value in seen.items() if value <= bound]
        high = min(within, default=None)
        low = max((each for each in seen if seen[each] > bound and (high is None or each < high)), default=None)
        if low is None and len(seen) > 3 and len({seen[each] for each in sorted(seen)[:4]}) == 1:
            break  # a smaller eps keeps no more
        if high is not None and low is not None and high < CLOSE * low:
            break  # there is nothing between
        if high is None or low is None:
            eps = max(seen) * STEP if high is None else min(seen) / STEP
        else:
            # Where a straight line between the two, over the logarithm of eps, meets what is wanted, never at an end;
            # in the middle where costs go in steps.
            part = (seen[low] - (1 + NEAR) / 2 * bound) / (seen[low] - seen[high])
            part = 0.5 if list(seen.values()).count(seen[eps]) > 1 else min(max(part, 0.1), 0.9)
            eps = math.exp((1 - part) * math.log(low) + part * math.log(high))
        eps = float(f"{eps:.3g}")
    within = [each for each, value in seen.items() if value <= bound]
    if not within:
        raise ZooError(
            f"No eps up to {max(seen):g} brings the network down to {bound:.4g}: ask for more, or take a method that "
            f"allots neurons under one price, such as repaired or local."
        )
    return max(within, key=lambda each: (seen[each], -each))
