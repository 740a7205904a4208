"""The reader solved anew for the neurons that are kept, in closed form, without labels and without training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.prune.reconstruct.sweep_operator import factorise
from zoo.prune.statistics import Moments

# Ridges to choose from, as parts of the mean square of a column about its mean.
RIDGES = tuple(10.0**power for power in range(-7, 3))
START = 1e-2


def solve(
    moments: Moments, W: Tensor, columns: Tensor, ridge: float, *, constant: bool = True
) -> tuple[Tensor, Tensor]:
    """By how much weight (O, K) and bias (O,) change so that only `columns` (k,) of the weight W (O, K) are used and
    ||Phi V' + 1 b' - Phi W'||^2 + ridge d ||V - W||^2 (on the columns kept) is smallest, d their mean square.

    A large ridge leaves W as it is on the kept columns. With `constant` off the bias does not change.
    """
    W = W.double()
    gone = torch.ones(W.shape[1], dtype=torch.bool, device=W.device)
    gone[columns] = False
    removed = gone.nonzero().squeeze(1)
    H = moments.centred() if constant else moments.raw()
    A = H[columns][:, columns]
    A.diagonal().add_(ridge * A.diagonal().mean() + torch.finfo(A.dtype).tiny)
    change = torch.zeros_like(W)
    change[:, removed] = -W[:, removed]
    # The kept columns take over what they can of Phi_R W_R', the part of the output that goes.
    change[:, columns] = torch.cholesky_solve(H[columns][:, removed] @ W[:, removed].t(), factorise(A)).t()
    return change, -change @ moments.mean() if constant else change.new_zeros(len(W))


def choose_ridge(
    fit: Moments, held: Moments, W: Tensor, columns: Tensor, *, start: float | None = None, constant: bool = True
) -> float:
    """The ridge whose solution on `fit` has the smallest error on the rows held out: downhill along `RIDGES` from
    `start` to the first minimum. Without rows held out, `start`."""
    at = RIDGES.index(START if start is None else start)
    if not held.rows or not fit.rows:
        return RIDGES[at]
    errors: dict[int, float] = {}

    def error(k: int) -> float:
        if k not in errors:
            known = 0 <= k < len(RIDGES)
            errors[k] = (
                float(held.error(*solve(fit, W, columns, RIDGES[k], constant=constant)).sum()) if known else math.inf
            )
        return errors[k]

    step = 1 if error(at + 1) < error(at) else -1
    while error(at + step) < error(at):
        at += step
    return RIDGES[at]
