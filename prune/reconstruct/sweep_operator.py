"""Ridge regression on a set of neurons that grows and shrinks by one neuron at a time, by the sweep operator.

`QuadraticProblem` gives the error of a set S of neurons. Adding or removing a neuron of m columns is a rank-m update of
one tableau (Goodnight 1979, A Tutorial on the SWEEP Operator, The American Statistician 33).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from zoo.errors import ZooError


class QuadraticProblem(NamedTuple):
    """The error that one reader is left with when only a set S of the neurons is kept:

        error(S) = error(no neuron) - tr(B_S' A_SS^-1 B_S) + sum over i in S of penalty_i

    With target Y = Phi W' and ridge r, A = Phi'Phi + r, B = Phi'Y + r W' and penalty_i = r ||W_i||^2 make this the
    minimum over V of ||Phi_S V' - Y||^2 + r ||V - W_S||^2.

    A        (N m, N m) float64, positive definite; neuron i owns rows i m to (i + 1) m
    B        (N m, O)
    m        columns of a neuron
    penalty  (N,)
    """

    A: Tensor
    B: Tensor
    m: int
    penalty: Tensor


class SweepTableau:
    """The error of one `QuadraticProblem` for any set S of neurons; at first S is empty.

    With R the neurons outside S, the rows of the tableau hold

        T_SS = -A_SS^-1    T_SR = A_SS^-1 A_SR    T_RR = A_RR - A_RS A_SS^-1 A_SR
        U_S = A_SS^-1 B_S (the weights)           U_R = B_R - A_RS A_SS^-1 B_S
    """

    def __init__(self, A: Tensor, B: Tensor, m: int, penalty: Tensor) -> None:
        self.T, self.U, self.m = A.clone(), B.clone(), m
        self.size = len(A) // m
        self.penalty = penalty
        self.inside = torch.zeros(self.size, dtype=torch.bool, device=A.device)

    def sweep_in(self, inside: Tensor) -> None:
        """Add all neurons `inside` (N,) bool to the empty set at once."""
        index = inside.repeat_interleave(self.m).nonzero().squeeze(1)
        rest = (~inside).repeat_interleave(self.m).nonzero().squeeze(1)
        factor = cholesky_with_jitter(self.T[index][:, index])
        A_SS_inv_A_SR = torch.cholesky_solve(self.T[index][:, rest], factor)
        weights = torch.cholesky_solve(self.U[index], factor)
        A_RS = self.T[rest][:, index]
        self.U[rest] -= A_RS @ weights
        self.U[index] = weights
        self.T[rest[:, None], rest] -= A_RS @ A_SS_inv_A_SR
        self.T[index[:, None], rest] = A_SS_inv_A_SR
        self.T[rest[:, None], index] = A_SS_inv_A_SR.t()
        self.T[index[:, None], index] = -torch.cholesky_inverse(factor)
        self.inside = inside.clone()

    def error_change(self) -> Tensor:
        """(N,) by how much the error falls if a neuron outside S is added, or rises if one inside S is removed."""
        N, m = self.size, self.m
        sign = torch.where(self.inside, -1.0, 1.0).to(self.T)
        blocks = self.T.view(N, m, N, m).diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # N m m
        return block_error_change(sign.view(-1, 1, 1) * blocks, self.U) - self.penalty

    def sweep(self, i: int) -> None:
        """Add neuron i to S, or remove it."""
        rows = slice(i * self.m, (i + 1) * self.m)
        sign = -1.0 if self.inside[i] else 1.0
        column, U = self.T[:, rows].clone(), self.U[rows].clone()
        factor = cholesky_with_jitter(sign * column[rows])
        solved = torch.cholesky_solve(column.t(), factor).t()
        column[rows], solved[rows] = 0.0, 0.0
        self.T.addmm_(solved, column.t(), alpha=-sign)
        self.U.addmm_(solved, U, alpha=-sign)
        self.U[rows] = torch.cholesky_solve(U, factor)
        self.T[:, rows] = solved
        self.T[rows] = solved.t()
        self.T[rows, rows] = -sign * torch.cholesky_inverse(factor)
        self.inside[i] = not self.inside[i]


def block_error_change(blocks: Tensor, U: Tensor) -> Tensor:
    """(N,) tr(U_i' D_i^-1 U_i) for blocks D (N, m, m) and U (N m, O)."""
    N, m = blocks.shape[:2]
    if m == 1:
        return U.square().sum(1) / blocks.view(N).clamp_min(torch.finfo(U.dtype).tiny)
    solved = torch.linalg.solve_triangular(cholesky_with_jitter(blocks), U.view(N, m, -1), upper=False)
    value: Tensor = solved.square().sum((1, 2))
    return value


def cholesky_with_jitter(A: Tensor) -> Tensor:
    """The Cholesky factor of A (..., n, n), where rounding has made A indefinite with the least multiple 1e-14 10^k of
    its mean diagonal added to the diagonal.

    Raises ZooError where A is not finite.
    """
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(A)
    jitter = 1e-14
    while bool(failed.any()):
        if not bool(torch.isfinite(A).all()):
            raise ZooError("The statistics of a reader cannot be factorised: its inputs are not finite, or too large.")
        added = A.diagonal(dim1=-2, dim2=-1).abs().mean(-1, keepdim=True) * jitter + torch.finfo(A.dtype).tiny
        factor, failed = torch.linalg.cholesky_ex(A + torch.diag_embed(added.expand(*A.shape[:-1])))
        jitter *= 10
    return factor
