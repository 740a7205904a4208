"""A reader's weight by ridge regression on the neurons that are kept, in closed form (He et al. 2017, Channel Pruning
for Accelerating Very Deep Neural Networks, section 3.1, with a ridge towards the old weight and with a bias)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.prune.reconstruct.sweep_operator import cholesky_with_jitter
from zoo.prune.statistics import Moments

RIDGES = tuple(10.0**power for power in range(-7, 3))  # relative to the mean square of a column about its mean
DEFAULT_RIDGE = 1e-2


def solve(
    moments: Moments, W: Tensor, columns: Tensor, ridge: float, *, fit_bias: bool = True
) -> tuple[Tensor, Tensor]:
    """The change of weight (O, K) and of bias (O,) of a reader that uses only some columns of its weight W (O, K):

        V, b = argmin ||Phi_S V' + 1 b' - Phi W'||^2 + ridge d ||V - W_S||^2

    where S are the `columns` (k,) and d is the mean square of these columns of Phi about their mean. The change of the
    columns outside S is -W. A large ridge leaves the weight on S as it is. Without `fit_bias`, b is 0, and d is the
    mean square about 0.
    """
    W = W.double()
    is_removed = torch.ones(W.shape[1], dtype=torch.bool, device=W.device)
    is_removed[columns] = False
    removed = is_removed.nonzero().squeeze(1)
    H = moments.centred() if fit_bias else moments.raw()
    A = H[columns][:, columns]
    A.diagonal().add_(ridge * A.diagonal().mean() + torch.finfo(A.dtype).tiny)
    change = torch.zeros_like(W)
    change[:, removed] = -W[:, removed]
    # With Phi W' = Phi_S W_S' + Phi_R W_R', the change on S is the ridge regression of the removed part Phi_R W_R'.
    change[:, columns] = torch.cholesky_solve(H[columns][:, removed] @ W[:, removed].t(), cholesky_with_jitter(A)).t()
    return change, -change @ moments.mean() if fit_bias else change.new_zeros(len(W))


def choose_ridge(
    train: Moments, val: Moments, W: Tensor, columns: Tensor, *, start: float | None = None, fit_bias: bool = True
) -> float:
    """The ridge of `RIDGES` whose solution on `train` has the smallest error on `val`: the first minimum downhill from
    `start` (by default `DEFAULT_RIDGE`). `start` itself where one of the two has no rows."""
    at = RIDGES.index(DEFAULT_RIDGE if start is None else start)
    if not val.rows or not train.rows:
        return RIDGES[at]
    errors: dict[int, float] = {-1: math.inf, len(RIDGES): math.inf}

    def error(k: int) -> float:
        if k not in errors:
            errors[k] = float(val.error(*solve(train, W, columns, RIDGES[k], fit_bias=fit_bias)).sum())
        return errors[k]

    step = 1 if error(at + 1) < error(at) else -1
    while error(at + step) < error(at):
        at += step
    return RIDGES[at]
