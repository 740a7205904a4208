"""Collective operations over the processes that torchrun started; in a single process each one does nothing.

Every process has the whole network and the indices of all samples, and runs its own shard of every batch. Sums over
samples are summed over processes, so that all processes see the same numbers and take the same decisions. Files,
printed text and timings are those of rank 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.errors import ZooError

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether more than one process takes part."""
    return world_size() > 1


def world_size() -> int:
    """The number of processes; 1 outside torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The index of this process, from 0."""
    return dist.get_rank() if is_distributed() else 0


def shard(size: int) -> slice:
    """The rows of a batch of `size` samples that this process runs.

    The rows are consecutive, and no process has more than one row more than another.
    """
    base, more = divmod(size, world_size())
    start = rank() * base + min(rank(), more)
    return slice(start, start + base + (rank() < more))


def all_reduce(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes, in place, and return it."""
    if is_distributed():
        dist.all_reduce(tensor)
    return tensor


def all_reduce_with_grad(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, differentiable."""
    result: Tensor = _AllReduce.apply(tensor) if is_distributed() else tensor
    return result


class _AllReduce(torch.autograd.Function):
    """The sum enters the loss of every process, so its gradient is the sum of the gradients of all processes."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return all_reduce(tensor.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return all_reduce(gradient.clone())


def all_reduce_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace the gradient of each parameter by its sum over processes, in one exchange; none counts as 0.

    torch's DistributedDataParallel overlaps the exchange with the backward pass, but it changes the order of its sums
    after the first step: a run of three or more processes that is resumed would round differently from an
    uninterrupted one.
    """
    if not is_distributed():
        return
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = all_reduce(torch.cat([gradient.flatten() for gradient in gradients]))
    for parameter, gradient, total in zip(
        parameters, gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True
    ):
        parameter.grad = gradient.copy_(total.view_as(gradient))


def all_gather_rows(rows: Tensor, size: int) -> Tensor:
    """The tensor (size, ...) of a whole batch from the rows that each process has of it (see `shard`)."""
    if not is_distributed():
        return rows
    gathered = rows.new_zeros(size, *rows.shape[1:])
    gathered[shard(size)] = rows
    return all_reduce(gathered)


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Copy the values of rank 0 into the tensors of all processes."""
    if is_distributed():
        for tensor in tensors:
            buffer = tensor.contiguous()
            dist.broadcast(buffer, 0)
            tensor.copy_(buffer)


def run_on_rank0(function: Callable[[], T]) -> T:
    """Call `function` in rank 0 alone and return its result in all processes; all raise its ZooError."""
    if not is_distributed():
        return function()
    outcome: list[Any] = [None, None]  # result, message of the error
    if rank() == 0:
        try:
            outcome[0] = function()
        except ZooError as error:
            dist.broadcast_object_list([None, str(error)])
            raise
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise ZooError(outcome[1])
    result: T = outcome[0]
    return result


def local_rank0_first(function: Callable[[], T]) -> T:
    """Call `function` in every process and return its result.

    On each machine local rank 0 calls it before the others, because it may fetch files that they share.
    """
    first = not is_distributed() or int(os.environ.get("LOCAL_RANK", 0)) == 0
    if first:
        result = function()
    all_gather_object(None)
    return result if first else function()


def broadcast_object(value: T) -> T:
    """The value that rank 0 has."""
    return run_on_rank0(lambda: value)


def all_gather_object(value: T) -> list[T]:
    """The values of all processes, in the order of their ranks."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def any_rank(*flags: bool) -> list[bool]:
    """For each flag, whether any process has set it."""
    return [total > 0 for total in all_reduce(torch.tensor(flags, dtype=torch.int32)).tolist()]


def check_same(what: str, value: object) -> None:
    """Raise ZooError, in all processes, unless all have the same value of `what`."""
    values = all_gather_object(value)
    if any(other != values[0] for other in values):
        listed = ", ".join(str(other) for other in values)
        raise ZooError(f"the processes must have {what} in common; they have, one after another: {listed}")


@contextmanager
def shared_errors() -> Iterator[None]:
    """Raise in all processes a ZooError that any of them raises inside the block.

    Without it the other processes would wait for a sum that the failed one never joins.
    """
    error = None
    try:
        yield
    except ZooError as local:
        error = local
    messages = all_gather_object(None if error is None else str(error))
    if error is not None:
        raise error
    for message in messages:
        if message is not None:
            raise ZooError(message)
