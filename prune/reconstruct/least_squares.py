"""The reader solved anew for the neurons that are kept, in closed form, without labels and without training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.prune.reconstruct.sweep_operator import cholesky_with_jitter
from zoo.prune.statistics import Moments

# Ridges to choose from, as parts of the mean square of a column about its mean.
RIDGES = tuple(10.0**power for power in range(-7, 3))
DEFAULT_RIDGE = 1e-2


def solve(
    moments: Moments, W: Tensor, columns: Tensor, ridge: float, *, fit_bias: bool = True
) -> tuple[Tensor, Tensor]:
    """By how much weight (O, K) and bias (O,) change so that only `columns` (k,) of the weight W (O, K) are used and
    ||Phi V' + 1 b' - Phi W'||^2 + ridge d ||V - W||^2 (on the columns kept) is smallest, d their mean square.

    A large ridge leaves W as it is on the kept columns. With `fit_bias` off the bias does not change.
    """
    W = W.double()
    gone = torch.ones(W.shape[1], dtype=torch.bool, device=W.device)
    gone[columns] = False
    removed = gone.nonzero().squeeze(1)
    H = moments.centred() if fit_bias else moments.raw()
    A = H[columns][:, columns]
    A.diagonal().add_(ridge * A.diagonal().mean() + torch.finfo(A.dtype).tiny)
    change = torch.zeros_like(W)
    change[:, removed] = -W[:, removed]
    # The kept columns take over what they can of Phi_R W_R', the part of the output that goes.
    change[:, columns] = torch.cholesky_solve(H[columns][:, removed] @ W[:, removed].t(), cholesky_with_jitter(A)).t()
    return change, -change @ moments.mean() if fit_bias else change.new_zeros(len(W))


def choose_ridge(
    train: Moments, val: Moments, W: Tensor, columns: Tensor, *, start: float | None = None, fit_bias: bool = True
) -> float:
    """The ridge whose solution on `fit` has the smallest error on the rows held out: downhill along `RIDGES` from
    `start` to the first minimum. Without rows held out, `start`."""
    at = RIDGES.index(DEFAULT_RIDGE if start is None else start)
    if not val.rows or not train.rows:
        return RIDGES[at]
    errors: dict[int, float] = {}

    def error(k: int) -> float:
        if k not in errors:
            known = 0 <= k < len(RIDGES)
            errors[k] = (
                float(val.error(*solve(train, W, columns, RIDGES[k], fit_bias=fit_bias)).sum()) if known else math.inf
            )
        return errors[k]

    step = 1 if error(at + 1) < error(at) else -1
    while error(at + step) < error(at):
        at += step
    return RIDGES[at]
