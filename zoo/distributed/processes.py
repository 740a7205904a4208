"""Several processes that work as one: torch.distributed as torchrun starts it.

Every process has the whole network and all sample numbers, and runs its own rows of every batch; what is summed over
samples is summed over processes, so every process sees the same sums and makes the same choices. What stands outside
(files, printed text, times) is the first process's own. Alone, each function here does nothing.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.errors import ZooError

T = TypeVar("T")
# A process that ends breaks its connections at once; one that is busy (with a download, say) is waited for.
PATIENCE = timedelta(hours=3)


def is_distributed() -> bool:
    """Whether there are others."""
    return world_size() > 1


def world_size() -> int:
    """How many processes there are; 1 outside torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this one, from 0."""
    return dist.get_rank() if is_distributed() else 0


def shard(size: int) -> slice:
    """This process's rows of a batch of `size` samples: consecutive, as many as the others have, or one fewer."""
    base, more = divmod(size, world_size())
    start = rank() * base + min(rank(), more)
    return slice(start, start + base + (rank() < more))


def all_reduce(tensor: Tensor) -> Tensor:
    """The sum over all processes, in the tensor's own memory."""
    if is_distributed():
        dist.all_reduce(tensor)
    return tensor


def all_reduce_with_grad(tensor: Tensor) -> Tensor:
    """The sum over all processes, which gradients go through."""
    result: Tensor = _Summed.apply(tensor) if is_distributed() else tensor
    return result


class _Summed(torch.autograd.Function):
    """Each process's loss goes with the sum, and the gradients of all come back to each."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return all_reduce(tensor.clone())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return all_reduce(gradient.clone())


def all_gather_rows(part: Tensor, size: int) -> Tensor:
    """(size, ...) of a batch from every process's own rows of it."""
    if not is_distributed():
        return part
    rows = part.new_zeros(size, *part.shape[1:])
    rows[shard(size)] = part
    return all_reduce(rows)


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Give tensors the values that the first process has."""
    if is_distributed():
        for tensor in tensors:
            same = tensor.contiguous()
            dist.broadcast(same, 0)
            tensor.copy_(same)


def run_on_rank0(work: Callable[[], T]) -> T:
    """What `work` gives, done by the first process alone; its ZooError is raised by all."""
    if not is_distributed():
        return work()
    found: list[Any] = [None, None]
    if rank() == 0:
        try:
            found[0] = work()
        except ZooError as error:
            dist.broadcast_object_list([None, str(error)])
            raise
    dist.broadcast_object_list(found)
    if found[1] is not None:
        raise ZooError(found[1])
    result: T = found[0]
    return result


def broadcast_object(value: T) -> T:
    """The first process's value."""
    return run_on_rank0(lambda: value)


def all_gather_object(value: T) -> list[T]:
    """Every process's value, in the order of their numbers."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def any_rank(*flags: bool) -> list[bool]:
    """For each flag whether it is set in any process."""
    return [total > 0 for total in all_reduce(torch.tensor(flags, dtype=torch.int32)).tolist()]


def check_same(what: str, value: object) -> None:
    """Raise ZooError, in all processes, unless all have the same value of `what`."""
    if not is_distributed():
        return
    values = all_gather_object(value)
    if any(each != values[0] for each in values):
        several = ", ".join(str(each) for each in values)
        raise ZooError(f"the processes must have {what} in common; they have, one after another: {several}")


def local_rank0_first(work: Callable[[], T]) -> T:
    """What `work` gives, done by every process; on each machine by one before the others, as it may fetch files."""
    first = not is_distributed() or int(os.environ.get("LOCAL_RANK", 0)) == 0
    if first:
        done = work()
    all_gather_object(None)
    return done if first else work()


def local_device(name: str) -> torch.device:
    """The device of a name; of several processes on one machine each has a GPU of its own.

    Raises ZooError if there are fewer GPUs than processes.
    """
    if name != "cuda" or not _asked():
        return torch.device(name)
    index, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if index >= gpus:
        raise ZooError(
            f"process {index} of this machine has no GPU, there are {gpus}: start as many as there are "
            f"(torchrun --nproc-per-node {gpus}), or use --device cpu"
        )
    return torch.device("cuda", index)


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, if it started this one, and leave them at the end.

    Raises ZooError when another process has ended before its time: then the connection to it breaks, or torchrun sends
    SIGTERM. After an error SIGTERM is ignored: the process is on its way out, with a message of its own. A process that
    is alone ends on SIGTERM with exit code 143 and a sentence, wherever it is.
    """
    if not _asked():
        before = _on_sigterm(_stop)
        try:
            yield
        finally:
            _on_sigterm(before)
        return
    if dist.is_initialized():
        yield
        return
    before, failed = _on_sigterm(_told_to_stop), False
    try:
        if int(os.environ.get("LOCAL_RANK", 0)) < torch.cuda.device_count():
            torch.cuda.set_device(local_device("cuda"))
        # This module keeps the group of the moment of its import in default arguments. torch's compiler imports it,
        # and after the start below that would keep gloo's threads alive while the interpreter ends: it may abort.
        importlib.import_module("torch.distributed.nn.functional")
        # Host things (errors, choices, random states) go over gloo, what lies on a GPU over NCCL.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
        yield
    except BaseException as error:
        _on_sigterm(signal.SIG_IGN)
        failed = True
        if isinstance(error, RuntimeError) and _broken(error):
            reason = f"has lost the others: one of them has ended ({str(error).splitlines()[0]})"
            raise ZooError(_gone(reason)) from error
        raise
    else:
        _on_sigterm(before)
    finally:
        if dist.is_initialized():
            _abort() if failed else dist.destroy_process_group()


def _abort() -> None:
    """Break off: NCCL takes leave together, and beside others that still wait for a sum one that failed would wait for
    them for ever."""
    # torch has no public name for it yet
    getattr(dist.distributed_c10d, "_abort_process_group", dist.destroy_process_group)()


def _stop(number: int, frame: object) -> None:
    print("Stopped (SIGTERM). The same command goes on from what it has saved, if anything.", file=sys.stderr)
    raise SystemExit(128 + number)  # no Exception, which somebody might catch


def _told_to_stop(number: int, frame: object) -> None:
    # Python calls it between two of its steps: a process that waits inside CUDA is ended by torchrun's SIGKILL instead
    raise ZooError(_gone("was told to stop (SIGTERM): another has ended, or all were stopped"))


def _gone(reason: str) -> str:
    number, processes = os.environ.get("RANK", "?"), os.environ.get("WORLD_SIZE", "?")
    return f"process {number} of {processes} {reason}. What was saved is kept, and the same command goes on from there"


def _on_sigterm(handler: Any) -> Any:
    """Put a handler in place, and return the one before; nothing outside the main thread, which alone gets signals."""
    if handler is None or threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, handler)


def _asked() -> bool:
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def _broken(error: RuntimeError) -> bool:
    """Whether an error is that of a connection to another process. Gloo's are plain ones."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "Connection"))
