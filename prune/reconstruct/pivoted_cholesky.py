"""One greedy direction over all neurons, as a block Cholesky factorisation that chooses its pivots.

Adding neurons works on (T, U) = (A, B) of a `QuadraticProblem`, removing them on (A^-1, A^-1 B). Both then use
the same update: pivot i changes the error by tr(U_i' T_ii^-1 U_i), and then

    T <- T - T_.i T_ii^-1 T_i.        U <- U - T_.i T_ii^-1 U_i
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.prune.reconstruct.sweep_operator import block_error_change, cholesky_with_jitter

BLOCK = 128  # columns of updates of T that are applied together: one large product instead of many passes over T


class PivotedCholesky:
    """The factorisation of one reader's `QuadraticProblem`, whose pivots `stepwise_selection` chooses.

    backward  neurons are removed from all, instead of added to none
    """

    def __init__(self, A: Tensor, B: Tensor, m: int, penalty: Tensor, *, backward: bool) -> None:
        self.T, self.U, self.m, self.penalty = A.clone(), B.clone(), m, penalty
        self.size = len(A) // m
        if backward:
            factor = cholesky_with_jitter(A)
            self.T, self.U = torch.cholesky_inverse(factor), torch.cholesky_solve(B, factor)
        N = self.size
        self.blocks = self.T.view(N, m, N, m).diagonal(dim1=0, dim2=2).permute(2, 0, 1).clone()  # N m m, up to date
        self._pending = A.new_empty(len(A), 0)  # T - pending pending' is the up-to-date T

    def error_change(self) -> Tensor:
        """(N,) by how much the error falls if a neuron is added, or rises if it is removed; undefined for neurons
        already pivoted."""
        return block_error_change(self.blocks, self.U) - self.penalty

    def pivot(self, i: int) -> None:
        """Add neuron i, or remove it; it cannot be pivoted again."""
        N, m = self.size, self.m
        rows = slice(i * m, (i + 1) * m)
        column = self.T[:, rows] - self._pending @ self._pending[rows].t()
        factor = cholesky_with_jitter(self.blocks[i])
        update = torch.linalg.solve_triangular(factor, column.t(), upper=False).t()
        self.U -= update @ torch.linalg.solve_triangular(factor, self.U[rows], upper=False)
        by_neuron = update.reshape(N, m, m)
        self.blocks -= by_neuron @ by_neuron.transpose(1, 2)
        self.blocks[i] = torch.eye(m, dtype=self.T.dtype, device=self.T.device)
        self._pending = torch.cat([self._pending, update], 1)
        if self._pending.shape[1] >= BLOCK:
            self.T.addmm_(self._pending, self._pending.t(), alpha=-1)
            self._pending = self._pending.new_empty(len(self.T), 0)

    def keep_only(self, neurons: Tensor) -> None:
        """Drop the rows and columns of all neurons but `neurons` (n,), which makes the next pivots cheaper."""
        rows = (neurons.unsqueeze(1) * self.m + torch.arange(self.m, device=neurons.device)).flatten()
        pending = self._pending[rows]
        self.T = torch.addmm(self.T[rows][:, rows], pending, pending.t(), alpha=-1)
        self._pending = self._pending.new_empty(len(rows), 0)
        self.U, self.penalty, self.size = self.U[rows], self.penalty[neurons], len(neurons)
        self.blocks = self.blocks[neurons]
