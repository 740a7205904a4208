"""Exact k nearest neighbours on a CPU, by NumPy's partition of packed distances.

NumPy's partition of 32-bit integers uses SIMD instructions and needs no array of indices where each integer holds its
own: the upper bits are those of a distance, the lower ones the column. A few more than k are taken, and the k nearest
among these by their whole distances. That is exact unless the bits that were dropped hide the order of the last ones,
which is seen; the rows concerned are sorted by their whole distances.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

MAX_POINTS = 4096  # 12 bits for the column leave 11 of the mantissa: with fewer, many rows would be sorted again
_BLOCK = 256 * 1024  # distances at a time: 1 MiB, and as much for the keys, stay in the caches of a core
_MARGIN = 4  # candidates beyond k
_HAS_FAST_PARTITION = int(np.__version__.split(".")[0]) >= 2  # with SIMD instructions
# With several threads those of torch spin for some milliseconds after each operation, and take the processors from
# ours. So many distances outweigh it: 32 clouds of 512 points.
_LEAST_FOR_THREADS = 8 * 2**20


def is_faster(x: Tensor) -> bool:
    """Whether `nearest` can search these points (B, C, N), and is faster than sorting in torch."""
    B, _, N = x.shape
    large = torch.get_num_threads() == 1 or B * N * N >= _LEAST_FOR_THREADS
    return x.device.type == "cpu" and x.dtype == torch.float32 and N <= MAX_POINTS and _HAS_FAST_PARTITION and large


def nearest(x: Tensor, k: int) -> Tensor:
    """Indices (B, N, k), in any order, of the k nearest points of each point: x (B, C, N) float32 on a CPU, N at most
    `MAX_POINTS`. The distance is the squared Euclidean one; any of equal distances may be taken."""
    B, _, N = x.shape
    half = x.square().sum(1, keepdim=True).mul_(0.5)
    one = torch.ones_like(half)
    # [x_i, |x_i|^2 / 2, 1] . [-x_j, 1, |x_j|^2 / 2] = |x_i - x_j|^2 / 2, in one product.
    left, right = torch.cat([x, half, one], 1).transpose(1, 2), torch.cat([-x, one, half], 1)
    found = torch.empty(B, N, k, dtype=torch.int64)
    inference = torch.is_inference_mode_enabled()  # which is a thread's own

    def search(parts: Sequence[tuple[slice, slice]]) -> None:
        with torch.inference_mode(inference):
            distances, keys = torch.empty(_BLOCK), torch.empty(_BLOCK, dtype=torch.int32)
            for clouds, rows in parts:
                block = left[clouds, rows]
                shape = (*block.shape[:2], N)
                size = shape[0] * shape[1] * N
                distance = torch.bmm(block, right[clouds], out=distances[:size].view(shape))
                # No negative numbers: the bits of the others are integers in the same order.
                flat = distance.clamp_(min=0).view(-1, N)
                found[clouds, rows] = _smallest(flat, keys[:size].view(-1, N), k).view(*shape[:2], k)

    parts, threads = list(_parts(B, N)), torch.get_num_threads()
    if min(threads, len(parts)) <= 1:
        search(parts)
    else:
        for _ in _workers(os.getpid(), threads).map(search, [parts[i::threads] for i in range(threads)]):
            pass
    return found


def _parts(B: int, N: int) -> Iterator[tuple[slice, slice]]:
    """Slices of clouds and of their points that have at most _BLOCK distances: several clouds, or rows of one."""
    clouds, rows = max(1, _BLOCK // (N * N)), min(N, max(1, _BLOCK // N))
    for first in range(0, B, clouds):
        for row in range(0, N, rows):
            yield slice(first, first + clouds), slice(row, row + rows)


def _smallest(distance: Tensor, keys: Tensor, k: int) -> Tensor:
    """Columns (R, k) of the k smallest of each row: distance (R, N), none negative; keys (R, N) int32 is scratch."""
    N = distance.shape[1]
    taken = min(N, k + _MARGIN)
    low = (1 << (N - 1).bit_length()) - 1
    torch.bitwise_and(distance.view(torch.int32), ~low, out=keys)
    keys |= torch.arange(N, dtype=torch.int32)
    keys.numpy().partition(taken - 1, axis=1)
    candidates = (keys[:, :taken] & low).long()
    values = distance.gather(1, candidates).view(torch.int32)
    last, position = values.topk(k, 1, largest=False, sorted=False)
    result = candidates.gather(1, position)
    if taken < N:
        # Of all points that were not taken, the upper bits are at least those of the last candidate.
        hidden = (last.amax(1) & ~low) >= (keys[:, taken - 1] & ~low)
        if hidden.any():
            result[hidden] = distance[hidden].topk(k, 1, largest=False, sorted=False).indices
    return result


@functools.lru_cache(maxsize=1)
def _workers(process: int, number: int) -> ThreadPoolExecutor:
    """As many threads as torch uses, in each of which torch uses one: NumPy has none of its own, and between short
    operations torch's would wait for each other. Threads do not outlive a fork, so a process has its own."""
    started = threading.Barrier(number)

    def use_one_thread() -> None:
        torch.get_num_threads()  # the first use in a thread sets the default
        torch.set_num_threads(1)  # of this thread, and the default of threads that come later
        started.wait()

    workers = ThreadPoolExecutor(number, thread_name_prefix="zoo-knn", initializer=use_one_thread)
    for future in [workers.submit(started.wait) for _ in range(number)]:
        future.result()
    torch.set_num_threads(number)  # the default again
    return workers
