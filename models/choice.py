"""Which of several ways to compute the same runs fastest on this GPU: measured once for each shape, then remembered."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import statistics
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

_CHOSEN: dict[Hashable, str] = {}
_ROUNDS = 5


@functools.cache
def kernels() -> Any:
    """`zoo.models.kernels`, or None where Triton is not installed."""
    return importlib.import_module("zoo.models.kernels") if importlib.util.find_spec("triton") else None


def fastest(key: Hashable, ways: Mapping[str, Callable[[], Tensor]]) -> Tensor:
    """The result of the way that was fastest for this key, by device events; the first way if it cannot be measured.

    While a CUDA graph is captured nothing is measured: there the choice of an earlier eager call holds. A compiled or
    exported program takes the first way, which its compiler can fuse. The ways return the same up to rounding.
    """
    if torch.compiler.is_compiling():
        return next(iter(ways.values()))()
    name = _CHOSEN.get(key)
    if name is None:
        if torch.cuda.is_current_stream_capturing():
            name = next(iter(ways))
        else:
            times = {each: _milliseconds(way) for each, way in ways.items()}
            name = _CHOSEN[key] = min(times, key=times.__getitem__)
    return ways[name]()


def chosen() -> dict[Hashable, str]:
    """What has been measured so far: key -> name of the fastest way."""
    return dict(_CHOSEN)


def _milliseconds(way: Callable[[], Tensor]) -> float:
    way()  # compiles, and fills caches
    times = []
    for _ in range(_ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        way()
        end.record()
        end.synchronize()
        times.append(float(start.elapsed_time(end)))
    return statistics.median(times)
