"""Accuracy on one split of a data set, with its 95 % interval, and the interval of a difference of two accuracies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.cards.json_schema import check_label
from zoo.errors import ZooError

Z = 1.959963984540054  # the normal distribution's 97.5 % point


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion, as fractions rounded to six digits: both solutions p of
    |correct/total - p| = Z sqrt(p (1 - p) / total).

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, Journal of the
    American Statistical Association 22 (1927) 209-212. Unlike the normal approximation, the interval stays inside
    [0, 1] and keeps its width at 0 and 100 %.

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
    """mean(a) - mean(b), and half the width of its 95 % interval, for two networks on the same samples.

    `a` and `b` hold for each sample, in the same order, 1 for a right answer and 0 for a wrong one (or the mean over
    several networks). The pairing removes the variance that comes from samples which are easy or hard for both.

    Source: A. Agresti, Y. Min, Simple improved confidence intervals for comparing matched proportions, Statistics in
    Medicine 24 (2005) 729-740. They add half a sample to each of the four counts (both right, only a, only b, neither):
    without these two samples the interval is too narrow where the networks differ on few samples, and has no width
    where they differ on none. In the worst case (two such samples expected, all on one side) the interval covers the
    true difference in 88 of 100 cases.

    >>> [round(part, 3) for part in paired([1, 1, 0, 1], [1, 0, 0, 1])]
    [0.25, 0.527]
    """
    difference = [x - y for x, y in zip(a, b, strict=True)]
    if not difference:
        raise ZooError("a paired difference needs at least one sample")
    total, n = math.fsum(difference), len(difference) + 2
    variance = (math.fsum(d * d for d in difference) + 1) / n - (total / n) ** 2
    return total / len(difference), Z * math.sqrt(variance / n)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Correct predictions on one split, with the 95 % Wilson interval (low, high) of their share."""

    split: str
    correct: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, split: str, correct: int, total: int) -> Accuracy:
        """The record of these counts, with the interval computed."""
        low, high = wilson_interval(correct, total)
        return cls(split=split, correct=correct, total=total, low=low, high=high)

    def __post_init__(self) -> None:
        check_label("accuracy: split", self.split)
        low, high = wilson_interval(self.correct, self.total)
        if max(abs(self.low - low), abs(self.high - high)) > 1e-6:
            raise ZooError(
                f"the interval {self.low} to {self.high} is not that of {self.correct} of {self.total}: "
                f"it is {low} to {high}"
            )

    @property
    def share(self) -> float:
        return self.correct / self.total
