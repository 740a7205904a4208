"""Batch norm over several processes: each normalises its shard of a batch with the statistics of the whole batch.

Inside `sync_batch_norms(size)` every batch norm in training mode uses the mean and variance of all `size` samples. The
layers, their names and their weights stay as they are, and nothing is exchanged in eval mode. torch's SyncBatchNorm
does the same on GPUs only. A layer that computes batch statistics itself uses `all_reduce_mean` and `global_count`.
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

from zoo.distributed.collectives import all_reduce, all_reduce_with_grad, is_distributed, shard


@dataclass(frozen=True)
class _Batch:
    size: int  # samples of all processes
    local_size: int  # samples that this process runs
    weight: float  # the process's part of the batch; 0 where it runs a sample without weight (see MicroBatch)


_batch: _Batch | None = None


@contextmanager
def sync_batch_norms(size: int) -> Iterator[None]:
    """A context in which the model runs this process's shard of a batch of `size` samples, all of one shape.

    A process without a sample of the batch runs any one sample, which gets weight 0. A single process is not affected.
    """
    global _batch
    if not is_distributed():
        yield
        return
    local_size = len(range(size)[shard(size)])
    before, _batch = _batch, _Batch(size, max(local_size, 1), local_size / size)
    try:
        with _ReplaceBatchNorm():
            yield
    finally:
        _batch = before


def all_reduce_mean(*local: Tensor) -> tuple[Tensor, ...]:
    """Means over the whole batch from means over this process's shard, all of one shape; differentiable."""
    if _batch is None:
        return local
    return all_reduce_with_grad(torch.stack(local) * _batch.weight).unbind()


def global_count(local: int) -> int:
    """The number of elements in the whole batch, given the number in this process's shard."""
    return local if _batch is None else local // _batch.local_size * _batch.size


class _ReplaceBatchNorm(TorchFunctionMode):
    """Replaces torch.nn.functional.batch_norm, which all batch-norm layers of torch call."""

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
    """`F.batch_norm` of x (B, C, ...); in training with the statistics of the whole batch."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    y: Tensor
    y, mean, var = _SyncBatchNorm.apply(x, weight, bias, eps)
    count = global_count(x.numel() // x.shape[1])
    for running, value in ((running_mean, mean), (running_var, var * (count / max(count - 1, 1)))):
        if running is not None:
            running.lerp_(value.to(running.dtype), momentum)
    return y


class _SyncBatchNorm(torch.autograd.Function):
    """x (B, C, ...), weight, bias (C,) or None -> y like x, and mean and biased variance (C,) over the whole batch.

    With x^ = (x - mean) / sqrt(var + eps) and n the elements of a channel over all processes, the gradient g of y gives

        dL/dx = weight / sqrt(var + eps) (g - sum(g) / n - x^ sum(g x^) / n)

    with sums over all processes (Ioffe, Szegedy 2015, section 3).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        local_var, local_mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), axes, correction=0)
        # Two exchanges instead of one of x and x^2: the variance is then no difference of two large numbers.
        (mean,) = all_reduce_mean(local_mean)
        (var,) = all_reduce_mean(local_var + (local_mean - mean).square())
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps, ctx.needs_grad = eps, (True, weight is not None, bias is not None)
        ctx.count = global_count(x.numel() // x.shape[1])
        ctx.counted = _batch is None or _batch.weight > 0
        ctx.mark_non_differentiable(mean, var)
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps), mean, var

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        rstd = torch.rsqrt(var + ctx.eps)
        # With constant statistics: g weight rstd, sum(g x^), sum(g). (CUDA needs the saved mean and rstd nevertheless.)
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, mean, rstd, False, ctx.eps, (True, True, True)
        )
        sums = all_reduce(torch.stack([grad_weight, grad_bias]))
        if ctx.counted:
            gain = rstd if weight is None else rstd * weight
            slope = -gain * rstd * sums[0] / ctx.count
            shape = [1, -1] + [1] * (x.ndim - 2)
            grad_x.add_((-gain * sums[1] / ctx.count - slope * mean).view(shape)).addcmul_(x, slope.view(shape))
        return grad_x, grad_weight if ctx.needs_grad[1] else None, grad_bias if ctx.needs_grad[2] else None, None
