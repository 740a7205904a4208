"""Joining and leaving the process group of torchrun, and what a process says when another one has ended."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from zoo.distributed.device import local_device, started_by_torchrun
from zoo.errors import ZooError

# A process that ends breaks its connections at once; a process that is busy, with a download say, is waited for.
TIMEOUT = timedelta(hours=3)


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started, and leave them at the end; do nothing without torchrun.

    Raises ZooError when another process has ended early: the connection to it breaks, or torchrun sends SIGTERM, which
    has a handler of its own inside. After an error SIGTERM is ignored, because the process is about to end with the
    message of that error.
    """
    if not started_by_torchrun() or dist.is_initialized():
        yield
        return
    before, failed = _on_sigterm(_raise_stopped), False
    try:
        if int(os.environ.get("LOCAL_RANK", 0)) < torch.cuda.device_count():
            torch.cuda.set_device(local_device("cuda"))
        # The default arguments of this module keep the process group that exists when the module is imported. torch's
        # compiler imports it; after init_process_group that would keep gloo's threads alive while the interpreter
        # ends, which may abort it.
        importlib.import_module("torch.distributed.nn.functional")
        # Objects on the host (errors, decisions, random states) go over gloo, tensors on a GPU over NCCL.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=TIMEOUT)
        yield
    except BaseException as error:
        _on_sigterm(signal.SIG_IGN)
        failed = True
        if isinstance(error, RuntimeError) and _is_connection_error(error):
            reason = f"has lost the others: one of them has ended ({str(error).splitlines()[0]})"
            raise ZooError(_ended_early(reason)) from error
        raise
    else:
        _on_sigterm(before)
    finally:
        if dist.is_initialized():
            _abort() if failed else dist.destroy_process_group()


def _abort() -> None:
    """Leave the process group without waiting for the others.

    NCCL's processes leave together: after a failure of this one the others, which wait for a sum, would never leave.
    """
    # torch has no public name for it yet
    getattr(dist.distributed_c10d, "_abort_process_group", dist.destroy_process_group)()


def _raise_stopped(number: int, frame: object) -> None:
    # Python runs the handler between two bytecodes: a process that waits inside CUDA is ended by torchrun's SIGKILL.
    raise ZooError(_ended_early("was told to stop (SIGTERM): another has ended, or all were stopped"))


def _ended_early(reason: str) -> str:
    number, processes = os.environ.get("RANK", "?"), os.environ.get("WORLD_SIZE", "?")
    return f"process {number} of {processes} {reason}. What was saved is kept, and the same command goes on from there"


def _on_sigterm(handler: Any) -> Any:
    """Install a handler and return the previous one; do nothing outside the main thread, which alone gets signals."""
    if handler is None or threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, handler)


def _is_connection_error(error: RuntimeError) -> bool:
    """Whether the connection to another process broke. Gloo raises plain RuntimeErrors."""
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "Connection"))
