"""What least squares needs to know of a reader: the second moments of its input, with a constant column.

With Phi the reader's input as a matrix (P, K) (`zoo.prune.columns`) and W (O, K) its weight, every error
||Phi V' + 1 b' - Phi W'||^2 and every solution follows from [Phi 1]'[Phi 1]. These are the statistics of local
imitation (Ye, Wu, Liu 2020, section 2.1), with a constant column, and for all columns of the reader.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.models.groups import Reader
from zoo.prune.columns import pieces
from zoo.prune.gram import square

# One sample in so many is held out, for the choice of the ridge.
HELD = 5


class Moments:
    """H (K+1, K+1) = [Phi 1]'[Phi 1], float64, of P rows."""

    def __init__(self, H: Tensor) -> None:
        self.H = H

    @property
    def rows(self) -> int:
        """P"""
        return int(self.H[-1, -1])

    def add(self, phi: Tensor) -> None:
        """Take in rows: phi (p, K)."""
        self.H[:-1, :-1] += square(phi)
        total = phi.sum(0, dtype=torch.float64)
        self.H[-1, :-1] += total
        self.H[:-1, -1] += total
        self.H[-1, -1] += len(phi)

    def centred(self) -> Tensor:
        """(K, K) the moments of Phi about its mean: what a weight is solved from where the bias is free."""
        total = self.H[:-1, -1]
        return self.H[:-1, :-1] - total.outer(total) / max(1, self.rows)

    def mean(self) -> Tensor:
        """(K,) of Phi"""
        return self.H[:-1, -1] / max(1, self.rows)

    def error(self, change: Tensor, shift: Tensor) -> Tensor:
        """(O,) the squared error of each output when the weight changes by `change` (O, K), the bias by `shift`."""
        full = torch.cat([change, shift.unsqueeze(1)], 1)
        return ((full @ self.H) * full).sum(1)


class ReaderMoments:
    """The moments of one reader, in two parts: `fit`, and `held` for every fifth sample."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        size = reader.weight.shape[1] + 1
        self.fit, self.held = (
            Moments(torch.zeros(size, size, dtype=torch.float64, device=reader.weight.device)) for _ in range(2)
        )
        self._seen = 0

    @property
    def all(self) -> Moments:
        return Moments(self.fit.H + self.held.H)

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """One input of the reader, sample after sample."""
        number = torch.arange(self._seen, self._seen + len(x), device=x.device)
        self._seen += len(x)
        held = (number + 1) % HELD == 0
        for part, choice in ((self.fit, ~held), (self.held, held)):
            if bool(choice.any()):
                for phi in pieces(self.reader, x[choice]):
                    part.add(phi)
