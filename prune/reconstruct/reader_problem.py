"""The error of one reader for any set of kept neurons, as a quadratic problem."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.models import Reader
from zoo.prune.reconstruct.sweep_operator import QuadraticProblem, cholesky_with_jitter
from zoo.prune.statistics import Moments


def has_bias(reader: Reader) -> bool:
    """Whether a constant can be added to the reader's output: its layer has a bias, or a batch norm follows it."""
    return getattr(reader.layer, "bias", None) is not None or getattr(reader.norm, "running_mean", None) is not None


def reader_problem(
    reader: Reader, moments: Moments, gamma: Tensor | None, ridge: float
) -> tuple[QuadraticProblem, float]:
    """The problem of a reader in the neurons of its group, and its error with none of them.

    With H the moments of Phi, r = ridge mean(diag H) and R R' = W' Gamma W (R = W' without Gamma), A = H + r and
    B = A R. error(S) is the objective, squared residual plus the ridge penalty on the columns that are kept, at the
    solution of `zoo.prune.reconstruct.least_squares.solve` with the neurons S. The columns F that belong to no neuron
    of the group are always in the regression, and therefore eliminated first:

        A <- A - A_.F A_FF^-1 A_F.        B <- B - A_.F A_FF^-1 B_F
    """
    H = moments.centred() if has_bias(reader) else moments.raw()
    W = reader.weight.double()
    r = ridge * float(H.diagonal().mean()) + torch.finfo(H.dtype).tiny
    A = H + r * torch.eye(len(H), dtype=H.dtype, device=H.device)
    R = W.t() if gamma is None else _weighted_root(W, gamma)
    B = A @ R
    columns = reader.all_columns.flatten().to(H.device)
    m = reader.all_columns.shape[1]
    penalty = r * R[columns].square().sum(1).view(-1, m).sum(1)
    error_of_none = float((R * B).sum() - penalty.sum())  # tr(Y'Y), and the penalty of the columns F
    is_free = torch.ones(len(H), dtype=torch.bool, device=H.device)
    is_free[columns] = False
    free = is_free.nonzero().squeeze(1)
    if len(free):
        factor = cholesky_with_jitter(A[free][:, free])
        A_FF_inv_A_F = torch.cholesky_solve(A[free][:, columns], factor)
        error_of_none -= float((B[free] * torch.cholesky_solve(B[free], factor)).sum())
        A = A.index_put((columns[:, None], columns), -A[columns][:, free] @ A_FF_inv_A_F, accumulate=True)
        B = B.index_add(0, columns, -A_FF_inv_A_F.t() @ B[free])
    return QuadraticProblem(A[columns][:, columns], B[columns], m, penalty), error_of_none


def _weighted_root(W: Tensor, gamma: Tensor) -> Tensor:
    """R (K, .) with R R' = W' gamma W for W (O, K), from the smaller of two eigenproblems."""
    by_outputs = W.shape[0] < W.shape[1]
    values, vectors = torch.linalg.eigh(gamma if by_outputs else W.t() @ gamma @ W)
    root: Tensor = vectors * values.clamp_min(0).sqrt()
    return W.t() @ root if by_outputs else root
