"""Devices and floating-point types by their names, and the device of one process among several."""

from __future__ import annotations

import os

import torch

from zoo.errors import ZooError, first_line


def device_of(device: str | torch.device) -> torch.device:
    """The torch device of that name, if a network can be on it here.

    Raises ZooError for a name that is no such device, and for a device that this machine does not have.
    """
    try:
        result = torch.device(device)
        if result.type == "meta":
            raise ValueError
    except (RuntimeError, TypeError, ValueError) as error:
        raise ZooError(f"{device!r} is not a device for a network: write cpu, cuda or cuda:0") from error
    if result.type == "cuda" and (result.index or 0) >= torch.cuda.device_count():
        raise ZooError(
            f"device {str(device)!r} is asked for, but torch {torch.__version__} finds "
            f"{torch.cuda.device_count()} CUDA devices here; use cpu"
        )
    try:
        torch.empty(0, device=result)
    except Exception as error:  # every backend raises errors of its own
        raise ZooError(f"device {str(device)!r} cannot be used here ({first_line(error)}); use cpu") from error
    return result


def dtype_of(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The floating-point type of that name; None for None.

    Raises ZooError for a name that is no type for weights.
    """
    result = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if result is None and dtype is None:
        return None
    if not isinstance(result, torch.dtype) or not result.is_floating_point or result.itemsize < 2:
        raise ZooError(f"{dtype!r} is no type for weights: write float32, float64, bfloat16 or float16")
    return result


def started_by_torchrun() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def local_device(name: str) -> torch.device:
    """The device of that name; "cuda" is the GPU of this process's local rank where torchrun started several.

    Raises ZooError if this machine has fewer GPUs than processes.
    """
    if name != "cuda" or not started_by_torchrun():
        return torch.device(name)
    index, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if index >= gpus:
        raise ZooError(
            f"process {index} of this machine has no GPU, there are {gpus}: start as many as there are "
            f"(torchrun --nproc-per-node {gpus}), or use `device=cpu`"
        )
    return torch.device("cuda", index)
