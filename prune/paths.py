"""What a criterion gives for one group: for every number of neurons n, which to keep and how to scale them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Path:
    """Scales s = N a for n = 1 ... N neurons: `scale(n)` is (N,) float64, zero for a removed neuron.

    At n = N it is the unpruned layer, s = 1. `rows` is (N, N), row n - 1 for n neurons, with at most n non-zeros.
    `refine` betters the scales of one n < N without letting neurons in; it is called when that n is asked for.
    """

    def __init__(self, rows: Tensor, refine: Callable[[Tensor], Tensor] | None = None) -> None:
        self.size = len(rows)
        self._rows = rows
        self._refine = refine
        self._refined: dict[int, Tensor] = {}

    @classmethod
    def ranked(cls, order: Tensor, weight: Callable[[int], float] = lambda n: 1.0) -> Path:
        """Keep the first n of `order` (N,), each with the same scale weight(n)."""
        N = len(order)
        rows = torch.zeros(N, N, dtype=torch.float64)
        for n in range(1, N + 1):
            rows[n - 1, order[:n]] = weight(n)
        rows[N - 1] = 1.0
        return cls(rows)

    def scale(self, n: int) -> Tensor:
        """(N,) the scales with at most n neurons."""
        if self._refine is None or n == self.size:
            return self._rows[n - 1]
        if n not in self._refined:
            self._refined[n] = self._refine(self._rows[n - 1])
        return self._refined[n]


def smallest(size: int, passes: Callable[[int], bool], *, resolution: int = 1) -> int:
    """The smallest n in 1 ... size for which `passes(n)`, by bisection; `size` itself is known to pass.

    `passes` is taken to be monotone; where it is not, the answer is one n that passes with a failing one at most
    `resolution` below it.
    """
    failing, passing = 0, size
    while passing - failing > max(1, resolution):
        middle = (failing + passing) // 2
        if passes(middle):
            passing = middle
        else:
            failing = middle
    return passing
