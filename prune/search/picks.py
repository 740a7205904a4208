"""The neurons that the global search picked, in order; kept where the network is, so that picking waits for nothing."""

from __future__ import annotations

import torch
from torch import Tensor


class Picks:
    """After k picks a_i = (times i was picked) / k, which is the update a <- (1 - gamma_k) a + gamma_k e_i with
    gamma_k = 1/(1+k) of equation (8).

    `add`, `scale()` and `with_one_more` know all picks and read nothing back from the device; `order` and what takes a
    number of picks know those up to the last `look`.
    """

    def __init__(self, size: int, device: torch.device | str = "cpu") -> None:
        self.size = size
        self.order: list[int] = []
        self.made = 0
        self._counts = torch.zeros(size, dtype=torch.float64, device=device)
        self._unseen: list[Tensor] = []

    def add(self, neurons: Tensor) -> None:
        """Pick neurons (c,), one after another."""
        self._counts.index_add_(0, neurons, torch.ones_like(neurons, dtype=torch.float64))
        self._unseen.append(neurons)
        self.made += len(neurons)

    def look(self) -> None:
        """Learn what was picked; waits until the device is there."""
        if self._unseen:
            self.order.extend(torch.cat(self._unseen).tolist())
            self._unseen = []

    def cut(self, k: int) -> None:
        """Forget all but the first k picks."""
        self.look()
        if k < self.made:
            self.order, self.made = self.order[:k], k
            self._counts = self._count(k).to(self._counts.device)

    def scale(self, k: int | None = None) -> Tensor:
        """(N,) s = N a after the first k picks, on the CPU; without k after all, on the device."""
        counts, picks = (self._counts, self.made) if k is None else (self._count(k), k)
        return counts * (self.size / picks)

    def neurons(self, k: int | None = None) -> int:
        """How many neurons are among the first k picks."""
        return len(set(self.order[:k]))

    def with_one_more(self, neurons: Tensor) -> Tensor:
        """(c, N) the scales after one more pick, for each of c neurons."""
        counts = self._counts.repeat(len(neurons), 1)
        rows = torch.arange(len(neurons), device=neurons.device)
        counts.index_put_((rows, neurons), torch.ones_like(rows, dtype=torch.float64), accumulate=True)
        return counts * (self.size / (self.made + 1))

    def _count(self, k: int) -> Tensor:
        return torch.bincount(torch.tensor(self.order[:k], dtype=torch.long), minlength=self.size).double()
