"""How long functions take: device events on CUDA, the wall clock elsewhere.

All measured times of the zoo come from here: forward times of networks, latency tables, the choice of a GPU kernel.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch

K = TypeVar("K", bound=Hashable)


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """The seconds that one call takes, on CUDA between two device events."""
    if device.type != "cuda":
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    start.record()
    call()
    end.record()
    torch.cuda.synchronize(device)
    return float(start.elapsed_time(end)) / 1000


def interleaved_seconds(
    calls: Mapping[K, Callable[[], object]], device: torch.device, *, repeats: int, warmup: int, seed: int = 0
) -> dict[K, list[float]]:
    """The seconds of `repeats` calls of each function, after `warmup` calls that are not counted.

    Every round calls each function once, in a newly shuffled order, so that slow moments of the machine hit all alike.
    The i-th times of all functions are of the same round.
    """
    shuffle, order = random.Random(seed).shuffle, list(calls)
    times: dict[K, list[float]] = {key: [] for key in calls}
    for round_ in range(warmup + repeats):
        shuffle(order)
        for key in order:
            spent = seconds(calls[key], device)
            if round_ >= warmup:
                times[key].append(spent)
    return times
