"""What least squares needs to know of a reader: the second moments of its input, with a constant column.

With Phi the reader's input as a matrix (P, K) (`zoo.prune.statistics.input_matrix`) and W (O, K) its weight, every error
||Phi V' + 1 b' - Phi W'||^2 and every solution follows from [Phi 1]'[Phi 1]. These are the statistics of local
imitation (Ye, Wu, Liu 2020, section 2.1), with a constant column, and for all columns of the reader.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo import distributed
from zoo.errors import ZooError
from zoo.models import Reader
from zoo.prune.statistics.gram import gram_of
from zoo.prune.statistics.input_matrix import iter_rows

# One sample in so many is held out, for the choice of the ridge.
VAL_EVERY = 5
# Of a column's mean square: below it float32 cannot tell whether the column varies.
NOISE = 1e-12
# Columns of a reader: H takes 8 bytes for each pair of them, and a few of its like are alive at a time.
MAX_COLUMNS = 16384


class Moments:
    """H (K+1, K+1) = [X 1]'[X 1], float64, of P rows X = Phi - c.

    centre  c (K,), anything near the mean: products are taken in float32, and of columns with a mean far from 0 they
            would keep little of what varies
    """

    def __init__(self, H: Tensor, centre: Tensor) -> None:
        self.H = H
        self.centre = centre

    @property
    def rows(self) -> int:
        """P"""
        return int(self.H[-1, -1])

    def add(self, phi: Tensor) -> None:
        """Take in rows: phi (p, K)."""
        X = phi.to(torch.promote_types(phi.dtype, torch.float32)) - self.centre.to(phi.device, torch.float32)
        self.H[:-1, :-1] += gram_of(X)
        total = X.sum(0, dtype=torch.float64)
        self.H[-1, :-1] += total
        self.H[:-1, -1] += total
        self.H[-1, -1] += len(phi)

    def centred(self) -> Tensor:
        """(K, K) the moments of Phi about its mean: what a weight is solved from where the bias is free."""
        total = self.H[:-1, -1]
        moments = self.H[:-1, :-1] - total.outer(total) / max(1, self.rows)
        # A column that is constant varies by rounding alone, and what is solved would be divided by that.
        moments.diagonal().add_(NOISE * (moments.diagonal() + self.rows * self.mean().square()))
        return moments

    def raw(self) -> Tensor:
        """(K, K) Phi'Phi, not about its mean."""
        return self.centred() + self.rows * self.mean().outer(self.mean())

    def mean(self) -> Tensor:
        """(K,) of Phi"""
        return self.centre + self.H[:-1, -1] / max(1, self.rows)

    def error(self, change: Tensor, shift: Tensor) -> Tensor:
        """(O,) the squared error of each output when the weight changes by `change` (O, K), the bias by `shift`."""
        full = torch.cat([change, (shift + change @ self.centre).unsqueeze(1)], 1)
        return ((full @ self.H) * full).sum(1)


class ReaderMoments:
    """The moments of one reader, in two parts: `fit`, and `held` for every fifth sample.

    Raises ZooError for a reader with more columns than `MOST`.
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
        self._begun = False

    @property
    def all(self) -> Moments:
        return Moments(self.train.H + self.val.H, self.train.centre)

    def start_batch(self, size: int) -> None:
        """The inputs that follow are of the next `size` samples; of several processes, of this one's own of them."""
        self._first, self._size = self._first + self._size, size

    def total(self) -> None:
        """Take in what the other processes have."""
        for part in (self.train, self.val):
            distributed.all_reduce(part.H)

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """One input of the reader: as many entries for each of the samples, sample after sample."""
        if not self._begun:
            self._begun = True
            first = distributed.all_reduce(next(iter_rows(self.reader, x)).mean(0)) / distributed.world_size()
            self.train.centre = self.val.centre = first.float().double()  # as `add` takes it off
        own = distributed.shard(self._size)
        if own.start == own.stop:
            return
        entries = max(1, len(x) // (own.stop - own.start))  # of one sample
        number = self._first + own.start + torch.arange(len(x), device=x.device) // entries
        held = (number + 1) % VAL_EVERY == 0
        for part, choice in ((self.train, ~held), (self.val, held)):
            if bool(choice.any()):
                for phi in iter_rows(self.reader, x[choice]):
                    part.add(phi)
