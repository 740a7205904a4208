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

from zoo.distributed import processes


@dataclass(frozen=True)
class _Batch:
    size: int  # samples of all processes together
    rows: int  # samples that this one runs
    weight: float  # its part of the batch; 0 where a process runs a sample that is not its own, to keep step


_batch: _Batch | None = None


@contextmanager
def sync_batch_norms(size: int) -> Iterator[None]:
    """Here the model runs this process's own rows of a batch of `size` samples, all as large as each other.

    A process that has no row of it runs any one sample, which then counts for nothing. Alone, nothing changes.
    """
    global _batch
    if not processes.is_distributed():
        yield
        return
    own = len(range(size)[processes.shard(size)])
    before, _batch = _batch, _Batch(size, max(own, 1), own / size)
    try:
        with _BatchNorms():
            yield
    finally:
        _batch = before


def all_reduce_mean(*local: Tensor) -> tuple[Tensor, ...]:
    """Means over the whole batch from those over this process's rows, all of one shape; gradients go through."""
    if _batch is None:
        return local
    return processes.all_reduce_with_grad(torch.stack(local) * _batch.weight).unbind()


def global_count(local: int) -> int:
    """How many things the whole batch has where this process's rows have so many."""
    return local if _batch is None else local // _batch.rows * _batch.size


class _BatchNorms(TorchFunctionMode):
    """Takes the place of torch.nn.functional.batch_norm, which torch's batch norms of every kind call."""

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
    y: Tensor
    y, mean, var = _Normalise.apply(x, weight, bias, eps)
    count = global_count(x.numel() // x.shape[1])
    for running, now in ((running_mean, mean), (running_var, var * (count / max(count - 1, 1)))):
        if running is not None:
            running.lerp_(now.to(running.dtype), momentum)
    return y


class _Normalise(torch.autograd.Function):
    """x (B, C, ...), weight, bias (C,) or None -> y like x, mean and biased variance (C,) over the whole batch.

    With x^ the normalised x and n all that a channel has in all processes, the gradient g of y goes on as
    weight / deviation (g - sum g / n - x^ sum (g x^) / n), the sums over all processes (Ioffe, Szegedy 2015,
    section 3).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        own_var, own_mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), axes, correction=0)
        # Two sums, not one of squares: the variance is no difference of two large numbers.
        (mean,) = all_reduce_mean(own_mean)
        (var,) = all_reduce_mean(own_var + (own_mean - mean).square())
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps, ctx.needs = eps, (True, weight is not None, bias is not None)
        ctx.count = global_count(x.numel() // x.shape[1])
        ctx.counts = _batch is None or _batch.weight > 0
        ctx.mark_non_differentiable(mean, var)
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps), mean, var

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        # Of statistics that are constants: grad * gain, sum (g x^), sum g. (CUDA wants the saved ones all the same.)
        scale = torch.rsqrt(var + ctx.eps)
        own, along, plain = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, mean, scale, False, ctx.eps, (True, True, True)
        )
        sums = processes.all_reduce(torch.stack([along, plain]))
        if ctx.counts:
            gain = scale if weight is None else scale * weight
            slope = -gain * scale * sums[0] / ctx.count
            shape = [1, -1] + [1] * (x.ndim - 2)
            own.add_((-gain * sums[1] / ctx.count - slope * mean).view(shape)).addcmul_(x, slope.view(shape))
        return own, along if ctx.needs[1] else None, plain if ctx.needs[2] else None, None
