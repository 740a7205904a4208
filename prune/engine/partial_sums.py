"""What was seen at the network's output of one group's scales, for another eps to take over."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from zoo.prune.resume import Record

# A mean of fewer samples than this says too little about its own error.
MIN_SAMPLES = 32


class RunningMean:
    """Of the gaps of the samples seen so far: how many, their sum, and that of their squares."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.batches: list[tuple[float, float, float]] = []
        self.count = self.sum = self.squares = 0.0

    def add(self, count: float, sum_: float, squares: float) -> None:
        """One more batch."""
        self.batches.append((count, sum_, squares))
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


class EvaluationCache:
    """The sums of every scale of a group that was looked at, behind one choice of all groups before it.

    The choice before is part of a look's name, so a look is taken over only where it would come out the same.
    """

    def __init__(self, record: Record, group: str, before: Mapping[str, Tensor]) -> None:
        self.record = record
        self.name = f"{group} behind {_digest(before)}"
        self.reused = False
        self._new: dict[str, list[float]] = {}

    def of(self, scale: Tensor) -> list[tuple[float, float, float]]:
        """What an earlier run saw of a scale (N,), batch by batch; empty if nothing."""
        flat = self.record.values.get(self._key(scale), [])
        return [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3)]

    def note(self, scale: Tensor, sums: RunningMean) -> None:
        """Take down what was seen of a scale (N,); `keep` writes it."""
        self._new[self._key(scale)] = [number for batch in sums.batches for number in batch]

    def keep(self) -> None:
        """Write what was noted, on disk before this returns."""
        self.record.update(self._new)
        self._new = {}

    def _key(self, scale: Tensor) -> str:
        return f"{self.name}: {_digest({'scale': scale})}"


def _digest(scales: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, scale in scales.items():
        digest.update(f"{name} {len(scale)} ".encode() + scale.to("cpu", torch.float64).numpy().tobytes())
    return digest.hexdigest()[:16]
