"""Batch norm over several processes: the statistics of a whole batch of which each process runs its own rows.

Inside `whole_batch(size)` every batch norm that takes its batch's statistics takes those of all `size` samples; layers,
their names and weights stay as they are, and nothing is exchanged in eval mode. torch's SyncBatchNorm is for GPUs only.
A layer that takes statistics by itself does so through `means` and `number`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from zoo import processes


@dataclass(frozen=True)
class _Batch:
    size: int  # samples of all processes together
    rows: int  # samples that this one runs
    weight: float  # its part of the batch; 0 where a process runs a sample that is not its own, to keep step


_batch: _Batch | None = None


@contextmanager
def whole_batch(size: int) -> Iterator[None]:
    """Here the model runs this process's own rows of a batch of `size` samples, all as large as each other.

    A process that has no row of it runs any one sample, which then counts for nothing. Alone, nothing changes.
    """
    global _batch
    if not processes.together():
        yield
        return
    own = len(range(size)[processes.own(size)])
    before, _batch = _batch, _Batch(size, max(own, 1), own / size)
    try:
        with _BatchNorms():
            yield
    finally:
        _batch = before


def means(*local: Tensor) -> tuple[Tensor, ...]:
    """Means over the whole batch from those over this process's rows, all of one shape; gradients go through."""
    if _batch is None:
        return local
    return processes.summed(torch.stack(local) * _batch.weight).unbind()


def number(local: int) -> int:
    """How many things the whole batch has where this process's rows have so many."""
    return local if _batch is None else local // _batch.rows * _batch.size


class _BatchNorms(TorchFunctionMode):
    """Takes the place of torch's batch norm, however it is called."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return (_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm` of x (B, C, ...); in training with the statistics of all processes."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    axes = [axis for axis in range(x.ndim) if axis != 1]
    var, mean = torch.var_mean(exact, axes, correction=0)
    # Two sums, not one of squares: the variance is no difference of two large numbers.
    (whole_mean,) = means(mean)
    (whole_var,) = means(var + (mean - whole_mean).square())
    with torch.no_grad():
        count = number(x.numel() // x.shape[1])
        if running_mean is not None:
            running_mean.lerp_(whole_mean.to(running_mean.dtype), momentum)
        if running_var is not None:
            running_var.lerp_((whole_var * (count / max(count - 1, 1))).to(running_var.dtype), momentum)
    gain = torch.rsqrt(whole_var + eps)
    if weight is not None:
        gain = gain * weight
    shift = -whole_mean * gain
    if bias is not None:
        shift = shift + bias
    shape = [1, -1] + [1] * (x.ndim - 2)
    return torch.addcmul(shift.view(shape), exact, gain.view(shape)).to(x.dtype)
