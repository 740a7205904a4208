"""Which of several ways to compute the same runs fastest on this GPU: measured once for each shape, then remembered."""

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

_CHOSEN: dict[Hashable, str] = {}
_ROUNDS = 5


@functools.cache
def kernels() -> Any:
    """`zoo.models.triton_kernels`, or None where Triton is not installed or does not load, or ZOO_TRITON is 0."""
    if os.environ.get("ZOO_TRITON") == "0":
        return None
    try:
        return importlib.import_module("zoo.models.triton_kernels")
    except (ImportError, AttributeError, RuntimeError):
        return None


def autotune(key: Hashable, ways: Mapping[str, Callable[[], Tensor]], device: torch.device) -> Tensor:
    """The result of the way that was fastest for this key on this GPU, by device events.

    A way that fails while it is measured is out of the race; the first way is plain torch and may not. While a CUDA
    graph is captured nothing is measured: there the choice of an earlier eager call holds, or the first way. The ways
    return the same up to rounding; where distances tie up to rounding, neighbours may differ from one run to another.
    """
    with torch.cuda.device(device):  # Triton launches on the current one
        name = _CHOSEN.get(key)
        if name is None:
            name = next(iter(ways))
            if not torch.cuda.is_current_stream_capturing():
                times = {each: _milliseconds(way, must=each == name) for each, way in ways.items()}
                name = _CHOSEN[key] = min(times, key=times.__getitem__)
        return ways[name]()


def autotuned() -> dict[Hashable, str]:
    """What has been measured so far: key -> name of the fastest way."""
    return dict(_CHOSEN)


def _milliseconds(way: Callable[[], Tensor], *, must: bool) -> float:
    try:
        way()  # compiles, and fills caches
    except Exception:  # whatever a compiler, a driver or a missing tool may raise
        if must:
            raise
        return math.inf
    device = torch.device("cuda", torch.cuda.current_device())
    return 1000 * statistics.median(seconds(way, device) for _ in range(_ROUNDS))
