"""What a criterion gives for one group: for every number of neurons n, which to keep and how to scale them; and the
search for the smallest n that does."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


class Path:
    """Scales s = N a for n = 1 ... N neurons: `scale(n)` is (N,) float64, zero for a removed neuron.

    At n = N it is the unpruned layer, s = 1. `rows` is (N, N), row n - 1 for n neurons, with at most n non-zeros.
    `refine` betters the scales of one n < N without letting neurons in; it is called when that n is asked for.
    `error` is what the criterion itself says of scales, the local discrepancy.
    """

    def __init__(
        self,
        rows: Tensor,
        refine: Callable[[Tensor], Tensor] | None = None,
        error: Callable[[Tensor], float] | None = None,
    ) -> None:
        self.size = len(rows)
        self._rows = rows
        self._refine = refine
        self._refined: dict[int, Tensor] = {}
        self._error = error

    @classmethod
    def ranked(
        cls,
        order: Tensor,
        weight: Callable[[int], float] = lambda n: 1.0,
        error: Callable[[Tensor], float] | None = None,
    ) -> Path:
        """Keep the first n of `order` (N,), each with the same scale weight(n)."""
        N = len(order)
        rows = torch.zeros(N, N, dtype=torch.float64)
        for n in range(1, N + 1):
            rows[n - 1, order[:n]] = weight(n)
        rows[N - 1] = 1.0
        return cls(rows, error=error)

    def scale(self, n: int) -> Tensor:
        """(N,) the scales with at most n neurons."""
        if self._refine is None or n == self.size:
            return self._rows[n - 1]
        if n not in self._refined:
            self._refined[n] = self._refine(self._rows[n - 1])
        return self._refined[n]

    def profile(self) -> Tensor | None:
        """(N,) the local discrepancy with n = 1 ... N neurons, not refined; None where the criterion does not know."""
        if self._error is None:
            return None
        return torch.tensor([self._error(row) for row in self._rows], dtype=torch.float64)

    def error(self, n: int) -> float | None:
        """The local discrepancy with n neurons, or None where the criterion does not know it."""
        return None if self._error is None else self._error(self.scale(n))


def smallest(
    size: int,
    gap: Callable[[int], float],
    eps: float,
    *,
    resolution: int = 1,
    error: Callable[[int], float | None] = lambda n: None,
    ratio: float | None = None,
    slack: float = 0.0,
) -> int:
    """The smallest n in 1 ... size with gap(n) < eps, `size` itself being known to pass.

    The gap is taken to fall as n grows; where it does not, the answer is one n that passes with a failing one at most
    `resolution` below it (or 1). Each look at the gap costs a pass over the data. `error`, which costs less, tells
    where to look: over all n of a layer the gap is about `ratio` times it (a first guess, replaced by what is seen).
    Without it, bisection. A passing gap of (1 - slack) eps or more ends the search, whatever lies below.
    """
    resolution = max(1, resolution)
    failing, passing = 0, size
    gaps: dict[int, float] = {}
    step, side = resolution, 0
    while passing - failing > resolution:
        # Two looks on the same side of the guess double the distance to the next: it gallops to the other side.
        low, high = failing + (step if side < 0 else 1), passing - (step if side > 0 else resolution)
        if ratio is None or low > high:
            n = (failing + passing) // 2
        else:
            if failing in gaps and passing in gaps and gaps[failing] < math.inf:
                slope = (gaps[passing] - gaps[failing]) / (passing - failing)
                n = math.ceil(failing + (eps - gaps[failing]) / slope)
            else:
                n = _first_below(eps / ratio, error, failing, passing)
            n = min(max(n, low), high)
        gaps[n] = gap(n)
        passed = gaps[n] < eps
        if passed and slack and gaps[n] >= (1 - slack) * eps:
            return n
        expected = error(n)
        if ratio is not None and expected and 0 < expected < math.inf:
            # A gap that chance makes small, or negative, says no more than that the guess was too high.
            ratio = max(gaps[n] / expected, ratio / 2) if gaps[n] < math.inf else 2 * ratio
        step = 2 * step if side == (1 if passed else -1) else resolution
        side = 1 if passed else -1
        failing, passing = (failing, n) if passed else (n, passing)
    return passing


def _first_below(bound: float, error: Callable[[int], float | None], failing: int, passing: int) -> int:
    """By bisection, the first number in (failing, passing] whose error is below the bound; `passing` if none is."""
    while passing - failing > 1:
        middle = (failing + passing) // 2
        failing, passing = (failing, middle) if (error(middle) or 0.0) < bound else (middle, passing)
    return passing
