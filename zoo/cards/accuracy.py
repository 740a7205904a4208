"""Right answers on one split of a data set, and how far their share may be off."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.errors import ZooError

Z = 1.959963984540054  # the normal distribution's 97.5 % point


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion, as fractions rounded to six digits.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, Journal of the
    American Statistical Association 22 (1927) 209-212. Unlike the textbook interval it stays inside [0, 1] and
    keeps its width at 0 and 100 %.

    >>> wilson(90, 100)
    (0.825634, 0.944771)
    """
    if not 0 <= correct <= total or total == 0:
        raise ZooError(f"an accuracy needs 0 <= correct <= total and total > 0; got {correct} of {total}")
    z = Z
    share = correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return round(max(0.0, centre - half), 6), round(min(1.0, centre + half), 6)


def paired_difference_ci(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """By how much the mean of `a` is above that of `b`, and half of the difference's 95 % interval.

    Both say of the same samples, in their order, which were answered rightly (1 or 0; the mean over networks where
    several answered). What makes a sample easy or hard for both is not in the interval.

    Source: A. Agresti, Y. Min, Simple improved confidence intervals for comparing matched proportions, Statistics in
    Medicine 24 (2005) 729-740: half a sample more of each kind (both right, only one, only the other, neither).
    Without these two samples the interval is too small where few samples tell the two apart, and none at all where
    no sample does. At its worst, where two such samples are to be expected and all on one side, it holds the truth in
    88 of 100 cases.

    >>> [round(part, 3) for part in paired([1, 1, 0, 1], [1, 0, 0, 1])]
    [0.25, 0.527]
    """
    difference = [x - y for x, y in zip(a, b, strict=True)]
    if not difference:
        raise ZooError("a paired difference needs at least one sample")
    more = len(difference) + 2
    variance = (math.fsum(d * d for d in difference) + 1) / more - (math.fsum(difference) / more) ** 2
    return statistics.fmean(difference), Z * math.sqrt(variance / more)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Right answers on one split, with the Wilson interval of their share."""

    split: str
    correct: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, split: str, correct: int, total: int) -> Accuracy:
        """The record with its interval filled in."""
        low, high = wilson_interval(correct, total)
        return cls(split=split, correct=correct, total=total, low=low, high=high)

    def __post_init__(self) -> None:
        low, high = wilson_interval(self.correct, self.total)
        if max(abs(self.low - low), abs(self.high - high)) > 1e-6:
            raise ZooError(
                f"the interval {self.low} to {self.high} is not that of {self.correct} of {self.total}: "
                f"it is {low} to {high}"
            )

    @property
    def share(self) -> float:
        return self.correct / self.total
