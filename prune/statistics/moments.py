"""The second moments of a reader's input with a constant column, from which least squares solves its weight and bias.

With Phi (P, K) the reader's input as a matrix (`zoo.prune.statistics.input_matrix`) and W (O, K) its weight, the error
||Phi V' + 1 b' - Phi W'||^2 of any weight V and bias change b, and the V and b that minimise it, follow from
[Phi 1]'[Phi 1]. These are the statistics of local imitation (Ye et al. 2020, section 2.1), with a constant column and
over all columns of the reader.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo import distributed
from zoo.errors import ZooError
from zoo.models import Reader, SummedReader
from zoo.prune.statistics.gram import gram_of
from zoo.prune.statistics.input_matrix import iter_rows

VAL_EVERY = 5  # every fifth sample is held out, to choose the ridge on
RELATIVE_NOISE = 1e-12  # of a column's mean square: below it float32 cannot tell whether the column varies
MAX_COLUMNS = 16384  # of a reader: H takes 8 bytes per pair of columns, and a few matrices of its size exist at a time


class Moments:
    """H (K+1, K+1) = [X 1]'[X 1], float64, of the P rows of X = Phi - centre.

    centre  (K,) anything near the mean of Phi. The products are taken in float32, and in columns with a mean far from 0
            they would lose what varies
    """

    def __init__(self, H: Tensor, centre: Tensor) -> None:
        self.H = H
        self.centre = centre

    @property
    def rows(self) -> int:
        """P, the number of rows."""
        return int(self.H[-1, -1])

    def add(self, phi: Tensor) -> None:
        """Add rows Phi (p, K)."""
        X = phi.to(torch.promote_types(phi.dtype, torch.float32)) - self.centre.to(phi.device, torch.float32)
        self.H[:-1, :-1] += gram_of(X)
        total = X.sum(0, dtype=torch.float64)
        self.H[-1, :-1] += total
        self.H[:-1, -1] += total
        self.H[-1, -1] += len(phi)

    def centred(self) -> Tensor:
        """(K, K) the moments of Phi about its mean: with a free bias the weight is solved from these."""
        total = self.H[:-1, -1]
        moments = self.H[:-1, :-1] - total.outer(total) / max(1, self.rows)
        # A constant column varies by rounding alone, and the solution would be divided by that.
        moments.diagonal().add_(RELATIVE_NOISE * (moments.diagonal() + self.rows * self.mean().square()))
        return moments

    def raw(self) -> Tensor:
        """(K, K) Phi'Phi, about 0: without a free bias the weight is solved from these."""
        return self.centred() + self.rows * self.mean().outer(self.mean())

    def mean(self) -> Tensor:
        """(K,) the mean of the rows of Phi."""
        return self.centre + self.H[:-1, -1] / max(1, self.rows)

    def error(self, change: Tensor, shift: Tensor) -> Tensor:
        """(O,) the squared error of each output, summed over the rows, when the weight changes by `change` (O, K) and
        the bias by `shift` (O,)."""
        full = torch.cat([change, (shift + change @ self.centre).unsqueeze(1)], 1)
        return ((full @ self.H) * full).sum(1)


class ReaderMoments:
    """The moments of one reader's inputs in two parts: `train`, and `val` of every fifth sample.

    Raises ZooError for a reader with more columns than `MAX_COLUMNS`.
    """

    def __init__(self, reader: Reader) -> None:
        K = reader.weight.shape[1]
        if K > MAX_COLUMNS:
            raise ZooError(
                f"A {type(reader.module).__name__} with {K} inputs is too wide to repair: it takes several matrices of "
                f"{8 * K * K / 1e9:.0f} GB. Leave the group in front of it as it is, or leave the repair out."
            )
        self.reader = reader
        self.train, self.val = (
            Moments(
                torch.zeros(K + 1, K + 1, dtype=torch.float64, device=reader.weight.device),
                torch.zeros(K, dtype=torch.float64, device=reader.weight.device),
            )
            for _ in range(2)
        )
        self._first = self._size = 0
        self._centred = False

    @property
    def all(self) -> Moments:
        """The moments over train and val together."""
        return Moments(self.train.H + self.val.H, self.train.centre)

    def start_batch(self, size: int) -> None:
        """The inputs added from now on are of the next `size` samples; of several processes, of this one's shard of
        them."""
        self._first, self._size = self._first + self._size, size

    def all_reduce(self) -> None:
        """Add up the moments of all processes."""
        for part in (self.train, self.val):
            distributed.all_reduce(part.H)

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Add one input of the reader's module: equally many rows of x for each sample, sample after sample."""
        if not self._centred:
            self._centred = True
            first = distributed.all_reduce(next(iter_rows(self.reader, x)).mean(0)) / distributed.world_size()
            self.train.centre = self.val.centre = first.float().double()  # `Moments.add` subtracts it in float32
        shard = distributed.shard(self._size)
        if shard.start == shard.stop:
            return
        rows_per_sample = max(1, len(x) // (shard.stop - shard.start))
        sample = self._first + shard.start + torch.arange(len(x), device=x.device) // rows_per_sample
        is_val = (sample + 1) % VAL_EVERY == 0
        for part, inside in ((self.train, ~is_val), (self.val, is_val)):
            if not bool(inside.any()):
                continue
            if isinstance(self.reader.module, SummedReader):
                part.H += self.reader.module.second_moments(x[inside], part.centre)
            else:
                for phi in iter_rows(self.reader, x[inside]):
                    part.add(phi)
