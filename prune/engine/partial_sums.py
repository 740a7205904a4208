"""The running mean of a gap over batches, and the test that ends an evaluation early."""

from __future__ import annotations

import math

# A mean of fewer samples than this says too little about its own error.
MIN_SAMPLES = 32


class RunningMean:
    """Of the gaps of the samples seen so far: how many, their sum, and that of their squares."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.count = self.sum = self.squares = 0.0

    def add(self, count: float, sum_: float, squares: float) -> None:
        """One more batch."""
        self.count, self.sum, self.squares = self.count + count, self.sum + sum_, self.squares + squares

    @property
    def complete(self) -> bool:
        return self.count == self.total

    @property
    def mean(self) -> float:
        """Infinite where it is not a number."""
        mean = self.sum / self.count
        return mean if math.isfinite(mean) else math.inf

    def surely_above(self, eps: float) -> bool:
        """Whether the samples seen leave no doubt that the mean of all is above eps: theirs lies above it by 4 standard
        errors, or is not finite."""
        if not math.isfinite(self.sum):
            return True
        if not MIN_SAMPLES <= self.count < self.total:
            return False
        variance = max(0.0, self.squares - self.sum * self.mean) / (self.count - 1)
        return self.mean - 4 * math.sqrt(variance * (1 / self.count - 1 / self.total)) > eps
