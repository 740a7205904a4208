"""What a criterion gives for one group: for every number of neurons, which to keep and how to scale them; and the
search for the smallest number whose gap is below eps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

FILLER = 1e-3  # the scale of a neuron that only fills a group up; the mean scale of all is 1


class PruningPath:
    """Scales s = N a for n = 1 ... N neurons: `scale(n)` is (N,) float64, zero for a removed neuron.

    rows          (N, N), row n - 1 for n neurons, with at most n non-zeros; row N - 1 is s = 1, the unpruned group
    refine        improves the scales (N,) of one n < N without adding neurons; called when that n is asked for
    local_error   the local discrepancy of scales (N,), where the criterion knows it
    error_of_row  whether the local discrepancy with n neurons is that of the row, so that it costs no refinement
    """

    def __init__(
        self,
        rows: Tensor,
        refine: Callable[[Tensor], Tensor] | None = None,
        local_error: Callable[[Tensor], float] | None = None,
        error_of_row: bool = False,
    ) -> None:
        self.size = len(rows)
        self._error_of_row = error_of_row
        self._rows = rows
        self._refine = refine
        self._refined: dict[int, Tensor] = {}
        self._local_error = local_error

    @classmethod
    def from_ranking(
        cls,
        order: Tensor,
        weight: Callable[[int], float] = lambda n: 1.0,
        local_error: Callable[[Tensor], float] | None = None,
    ) -> PruningPath:
        """Keep the first n neurons of `order` (N,), the most important first, each with the scale weight(n)."""
        N = len(order)
        rows = torch.zeros(N, N, dtype=torch.float64)
        for n in range(1, N + 1):
            rows[n - 1, order[:n]] = weight(n)
        rows[N - 1] = 1.0
        return cls(rows, local_error=local_error)

    def scale(self, n: int) -> Tensor:
        """The scales (N,) with at most n neurons."""
        if self._refine is None or n == self.size:
            return self._rows[n - 1]
        if n not in self._refined:
            self._refined[n] = self._refine(self._rows[n - 1])
        return self._refined[n]

    def filled(self, n: int, widths: Sequence[int]) -> Tensor:
        """The scales (N,) with at most n neurons, in one of the numbers `widths`, of which the largest is N.

        The best scales of n neurons may leave some of them at 0. The neurons that come next on the path then fill the
        number up, with a scale that changes next to nothing: readers that are reconstructed or fine-tuned use them.
        """
        scale = self.scale(n)
        count = int(torch.count_nonzero(scale))
        missing = next(width for width in widths if width >= count) - count
        if missing:
            scale = scale.clone()
        for row in self._rows[n - 1 :] if missing else ():
            others = row.masked_fill(scale != 0, 0.0)
            fillers = others.argsort(descending=True, stable=True)[: min(missing, int(torch.count_nonzero(others)))]
            scale[fillers] = FILLER
            missing -= len(fillers)
            if not missing:
                break
        return scale

    def error_curve(self) -> Tensor | None:
        """(N,) the local discrepancy with n = 1 ... N neurons, not refined; None where the criterion knows none."""
        if self._local_error is None:
            return None
        return torch.tensor([self._local_error(row) for row in self._rows], dtype=torch.float64)

    def local_error(self, n: int) -> float | None:
        """The local discrepancy with n neurons; None where the criterion knows none."""
        if self._local_error is None:
            return None
        return self._local_error(self._rows[n - 1] if self._error_of_row else self.scale(n))


def allowed_widths(size: int, round_to: int | None, minimum: int = 1) -> list[int]:
    """The numbers of neurons, ascending, that a group of `size` may keep: multiples of `round_to` from `minimum` on, or
    all. Without round_to multiples of 8, in groups below 32 of 4: kernels work on 8 or 16 numbers at a time, and
    another width can be slower than the next larger multiple."""
    step = round_to or (8 if size >= 32 else 4)
    return [*(n for n in range(step, size, step) if n >= minimum), size]


def smallest_width(
    size: int,
    gap: Callable[[int], float],
    eps: float,
    *,
    resolution: int = 1,
    local_error: Callable[[int], float | None] = lambda n: None,
    ratio: float | None = None,
    eps_tolerance: float = 0.0,
) -> int:
    """The smallest n in 1 ... size with gap(n) < eps, where `size` itself is known to pass.

    The gap is assumed to fall as n grows; where it does not, the result is one n that passes, with a failing one at
    most `resolution` below it (or n = 1). A passing gap of (1 - eps_tolerance) eps or more ends the search.

    Each call of gap costs a pass over the data. `local_error` costs less and tells where to try next: over all n of a
    group the gap is about `ratio` times the local error (a first guess, updated by every gap that is computed). Without
    a ratio this is plain bisection.
    """
    resolution = max(1, resolution)
    failing, passing = 0, size
    gaps: dict[int, float] = {}
    step, side = resolution, 0
    while passing - failing > resolution:
        # After two gaps on the same side of eps the step doubles, so that the search soon has a gap on the other side.
        low, high = failing + (step if side < 0 else 1), passing - (step if side > 0 else resolution)
        if ratio is None or low > high:
            n = (failing + passing) // 2
        else:
            if failing in gaps and passing in gaps and gaps[failing] < math.inf:
                slope = (gaps[passing] - gaps[failing]) / (passing - failing)
                n = math.ceil(failing + (eps - gaps[failing]) / slope)
            else:
                n = _first_below(eps / ratio, local_error, failing, passing)
            n = min(max(n, low), high)
        gaps[n] = gap(n)
        passed = gaps[n] < eps
        if passed and eps_tolerance and gaps[n] >= (1 - eps_tolerance) * eps:
            return n
        expected = local_error(n)
        if ratio is not None and expected and 0 < expected < math.inf:
            # A gap that is small or negative by chance only tells that the ratio was too high.
            ratio = max(gaps[n] / expected, ratio / 2) if gaps[n] < math.inf else 2 * ratio
        step = 2 * step if side == (1 if passed else -1) else resolution
        side = 1 if passed else -1
        failing, passing = (failing, n) if passed else (n, passing)
    return passing


def _first_below(bound: float, local_error: Callable[[int], float | None], failing: int, passing: int) -> int:
    """By bisection, the first n in (failing, passing] whose local error is below the bound; `passing` if none is."""
    while passing - failing > 1:
        middle = (failing + passing) // 2
        failing, passing = (failing, middle) if (local_error(middle) or 0.0) < bound else (middle, passing)
    return passing
