"""Least squares on a set of neurons that grows and shrinks, one neuron at a time.

With A = Phi'Phi + ridge and B = Phi'Y + ridge W' of a reader, the kept columns S leave a squared error of
constant - tr(B_S' A_SS^-1 B_S). Moving a neuron of m columns in or out is a rank-m update of one tableau, the sweep
operator (Goodnight 1979, A Tutorial on the SWEEP Operator).
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import ZooError


class SweepTableau:
    """The problem of one reader, with any set of neurons inside; at first none is.

    A       (N m, N m) float64, positive definite; neuron i owns rows i m to (i + 1) m
    B       (N m, O) the right-hand sides
    saving  (N,) what the error falls by, apart from all that, when a neuron leaves

    T holds -A_SS^-1 for the neurons inside, and for those outside the part of A that the inside does not explain; U
    holds the weights (rows) of the neurons inside, and the right-hand sides that are left for those outside.
    """

    def __init__(self, A: Tensor, B: Tensor, m: int, saving: Tensor | None = None) -> None:
        self.T, self.U, self.m = A.clone(), B.clone(), m
        self.size = len(A) // m
        self.saving = A.new_zeros(self.size) if saving is None else saving
        self.inside = torch.zeros(self.size, dtype=torch.bool, device=A.device)

    def put(self, inside: Tensor) -> None:
        """From none: let all neurons `inside` (N,) in at once."""
        index = inside.repeat_interleave(self.m).nonzero().squeeze(1)
        rest = (~inside).repeat_interleave(self.m).nonzero().squeeze(1)
        factor = cholesky_with_jitter(self.T[index][:, index])
        across = torch.cholesky_solve(self.T[index][:, rest], factor)  # A_SS^-1 A_SR
        weights = torch.cholesky_solve(self.U[index], factor)
        old = self.T[rest][:, index]
        self.U[rest] -= old @ weights
        self.U[index] = weights
        self.T[rest[:, None], rest] -= old @ across
        self.T[index[:, None], rest] = across
        self.T[rest[:, None], index] = across.t()
        self.T[index[:, None], index] = -torch.cholesky_inverse(factor)
        self.inside = inside.clone()

    def change(self) -> Tensor:
        """(N,) by how much the error falls if a neuron outside comes in, or rises if one inside leaves."""
        N, m = self.size, self.m
        sign = torch.where(self.inside, -1.0, 1.0).to(self.T)
        blocks = self.T.view(N, m, N, m).diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # N m m
        return block_error_change(sign.view(-1, 1, 1) * blocks, self.U) - self.saving

    def move(self, i: int) -> None:
        """Let neuron i in, or take it out."""
        at = slice(i * self.m, (i + 1) * self.m)
        sign = -1.0 if self.inside[i] else 1.0
        column, U = self.T[:, at].clone(), self.U[at].clone()
        factor = cholesky_with_jitter(sign * column[at])
        solved = torch.cholesky_solve(column.t(), factor).t()
        column[at], solved[at] = 0.0, 0.0
        self.T.addmm_(solved, column.t(), alpha=-sign)
        self.U.addmm_(solved, U, alpha=-sign)
        self.U[at] = torch.cholesky_solve(U, factor)
        self.T[:, at] = solved
        self.T[at] = solved.t()
        self.T[at, at] = -sign * torch.cholesky_inverse(factor)
        self.inside[i] = not self.inside[i]


def block_error_change(blocks: Tensor, U: Tensor) -> Tensor:
    """(N,) tr(U_i' D_i^-1 U_i): blocks D (N, m, m), U (N m, O)."""
    N, m = blocks.shape[:2]
    if m == 1:
        return U.square().sum(1) / blocks.view(N).clamp_min(torch.finfo(U.dtype).tiny)
    solved = torch.linalg.solve_triangular(cholesky_with_jitter(blocks), U.view(N, m, -1), upper=False)
    value: Tensor = solved.square().sum((1, 2))
    return value


def cholesky_with_jitter(A: Tensor) -> Tensor:
    """The Cholesky factor of A (..., n, n); where rounding has made A indefinite, of A and a trace of its diagonal.

    Raises ZooError where A is not finite.
    """
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(A)
    part = 1e-14
    while bool(failed.any()):
        if not bool(torch.isfinite(A).all()):
            raise ZooError("The statistics of a reader cannot be factorised: its inputs are not finite, or too large.")
        trace = A.diagonal(dim1=-2, dim2=-1).abs().mean(-1, keepdim=True) * part + torch.finfo(A.dtype).tiny
        factor, failed = torch.linalg.cholesky_ex(A + torch.diag_embed(trace.expand(*A.shape[:-1])))
        part *= 10
    return factor
