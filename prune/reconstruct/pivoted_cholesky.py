"""One greedy direction over all neurons: a block Cholesky factorisation that picks its pivots.

Letting neurons in works on (A, B), taking them out on (A^-1, A^-1 B); after that both are the same. A pivot i changes
the error by tr(U_i' T_ii^-1 U_i), and then T <- T - T_.i T_ii^-1 T_i. and U <- U - T_.i T_ii^-1 U_i.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.prune.reconstruct.sweep_operator import block_error_change, cholesky_with_jitter

# So many columns of updates of T are gathered before they are applied: one product of large matrices in place of many
# passes over T.
BLOCK = 128


class PivotedCholesky:
    """The problem of one reader (`zoo.prune.reconstruct.sweep_operator.SweepTableau`'s A, B, m and saving) for `search`."""

    def __init__(self, A: Tensor, B: Tensor, m: int, saving: Tensor, *, backward: bool) -> None:
        self.T, self.U, self.m, self.saving = A.clone(), B.clone(), m, saving
        self.size = len(A) // m
        if backward:
            factor = cholesky_with_jitter(A)
            self.T, self.U = torch.cholesky_inverse(factor), torch.cholesky_solve(B, factor)
        self.blocks = self._diagonal()
        self._pending = A.new_empty(len(A), 0)  # T is less by late late'

    def _diagonal(self) -> Tensor:
        N, m = self.size, self.m
        return self.T.view(N, m, N, m).diagonal(dim1=0, dim2=2).permute(2, 0, 1).clone()

    def change(self) -> Tensor:
        """(N,) by how much the error changes if a neuron moves."""
        return block_error_change(self.blocks, self.U) - self.saving

    def move(self, i: int) -> None:
        """Let neuron i in, or take it out, for good; what is said of it afterwards means nothing."""
        N, m = self.size, self.m
        at = slice(i * m, (i + 1) * m)
        column = self.T[:, at] - self._pending @ self._pending[at].t()
        factor = cholesky_with_jitter(self.blocks[i])
        update = torch.linalg.solve_triangular(factor, column.t(), upper=False).t()
        self.U -= update @ torch.linalg.solve_triangular(factor, self.U[at], upper=False)
        each = update.reshape(N, m, m)
        self.blocks -= each @ each.transpose(1, 2)
        self.blocks[i] = torch.eye(m, dtype=self.T.dtype, device=self.T.device)
        self._pending = torch.cat([self._pending, update], 1)
        if self._pending.shape[1] >= BLOCK:
            self._apply()

    def keep_only(self, stay: Tensor) -> None:
        """Forget all neurons but `stay` (n,)."""
        rows = (stay.unsqueeze(1) * self.m + torch.arange(self.m, device=stay.device)).flatten()
        late = self._pending[rows]
        self.T = torch.addmm(self.T[rows][:, rows], late, late.t(), alpha=-1)
        self._pending = self._pending.new_empty(len(rows), 0)
        self.U, self.saving, self.size = self.U[rows], self.saving[stay], len(stay)
        self.blocks = self.blocks[stay]

    def _apply(self) -> None:
        self.T.addmm_(self._pending, self._pending.t(), alpha=-1)
        self._pending = self._pending.new_empty(len(self.T), 0)
