"""Autotuning on CUDA: of several implementations of one operation, the fastest for each key (shape, dtype, device)."""

from __future__ import annotations

import functools
import importlib
import math
import os
import statistics
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.timing import seconds

_FASTEST: dict[Hashable, str] = {}
_REPEATS = 5


@functools.cache
def load_triton() -> Any:
    """The module `triton_kernels`, or None where Triton is not installed or does not load, or ZOO_TRITON is 0."""
    if os.environ.get("ZOO_TRITON") == "0":
        return None
    try:
        return importlib.import_module("zoo.models.kernels.triton_kernels")
    except (ImportError, AttributeError, RuntimeError):
        return None


def run_fastest(key: Hashable, implementations: Mapping[str, Callable[[], Tensor]], device: torch.device) -> Tensor:
    """The result of the implementation that is fastest for this key on this GPU.

    The first call with a key times every implementation and remembers the name of the fastest; an implementation that
    raises while it is timed is never taken, except that the first one, plain torch, must not raise. While a CUDA graph
    is captured nothing can be timed: an earlier eager call decides, or else the first implementation is taken.

    The results are equal up to rounding. Where distances are equal up to rounding, the neighbours that are found may
    therefore differ from one run to another.
    """
    with torch.cuda.device(device):  # Triton launches on the current device
        name = _FASTEST.get(key)
        if name is None:
            first = name = next(iter(implementations))
            if not torch.cuda.is_current_stream_capturing():
                times = {n: _median_seconds(call, device, must_run=n == first) for n, call in implementations.items()}
                name = _FASTEST[key] = min(times, key=times.__getitem__)
        return implementations[name]()


def fastest_known() -> dict[Hashable, str]:
    """Key -> name of the fastest implementation, for the keys that have been timed."""
    return dict(_FASTEST)


def _median_seconds(call: Callable[[], Tensor], device: torch.device, *, must_run: bool) -> float:
    """The median time of a call; infinite if it raises, unless it must run."""
    try:
        call()  # compiles, and fills caches
    except Exception:  # whatever a compiler, a driver or a missing tool may raise
        if must_run:
            raise
        return math.inf
    return statistics.median(seconds(call, device) for _ in range(_REPEATS))
