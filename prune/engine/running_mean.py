"""The running mean of the gap over batches, and the sequential test that ends an evaluation early."""

from __future__ import annotations

import math

# The standard error of the mean of fewer samples is itself too uncertain.
MIN_SAMPLES = 32


class RunningMean:
    """The mean of one value per sample over the samples seen so far, of `total` in all, which come in random order."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.count = self.sum = self.squares = 0.0

    def add(self, count: float, sum_: float, squares: float) -> None:
        """Add a batch: the number of its values, their sum and the sum of their squares."""
        self.count, self.sum, self.squares = self.count + count, self.sum + sum_, self.squares + squares

    @property
    def complete(self) -> bool:
        """Whether all samples were seen."""
        return self.count == self.total

    @property
    def mean(self) -> float:
        """The mean over the samples seen; infinite where it is not finite."""
        mean = self.sum / self.count
        return mean if math.isfinite(mean) else math.inf

    @property
    def standard_error(self) -> float:
        """Of `mean` for all samples that there could be; 0 for a single one."""
        if self.count < 2 or not math.isfinite(self.sum):
            return 0.0
        return math.sqrt(max(0.0, self.squares - self.sum * self.mean) / (self.count - 1) / self.count)

    def surely_above(self, eps: float) -> bool:
        """Whether the mean of all samples is above eps by a sequential test: the mean of those seen lies above eps by 4
        standard errors (sampling without replacement), or is not finite."""
        if not math.isfinite(self.sum):
            return True
        if not MIN_SAMPLES <= self.count < self.total:
            return False
        variance = max(0.0, self.squares - self.sum * self.mean) / (self.count - 1)
        return self.mean - 4 * math.sqrt(variance * (1 / self.count - 1 / self.total)) > eps
