"""Exact k nearest neighbours on a CPU, by NumPy's partition of packed distances.

NumPy's partition of 32-bit integers uses SIMD instructions and needs no array of indices where each integer holds its
own: the upper bits are those of a distance, the lower ones the column. A few more than k are taken, and the k nearest
among these by their whole distances. That is exact unless the bits that were dropped hide the order of the last ones,
which is seen; the rows concerned are sorted by their whole distances.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

MAX_POINTS = 4096  # 12 bits for the column leave 11 of the mantissa: with fewer, many rows would be sorted again
_BLOCK = 256 * 1024  # distances at a time: 1 MiB, and as much for the keys, stay in the caches of a core
_MARGIN = 4  # candidates beyond k


def nearest(x: Tensor, k: int) -> Tensor:
    """Indices (B, N, k), in any order, of the k nearest points of each point: x (B, C, N) float32 on a CPU, N at most
    `MAX_POINTS`. The distance is the squared Euclidean one; any of equal distances may be taken."""
    B, _, N = x.shape
    half = x.square().sum(1, keepdim=True).mul_(0.5)
    one = torch.ones_like(half)
    # [x_i, |x_i|^2 / 2, 1] . [-x_j, 1, |x_j|^2 / 2] = |x_i - x_j|^2 / 2, in one product.
    left, right = torch.cat([x, half, one], 1).transpose(1, 2), torch.cat([-x, one, half], 1)
    found = torch.empty(B, N, k, dtype=torch.int64)
    distances, keys = torch.empty(_BLOCK), torch.empty(_BLOCK, dtype=torch.int32)
    for clouds, rows in _parts(B, N):
        block = left[clouds, rows]
        shape = (*block.shape[:2], N)
        size = shape[0] * shape[1] * N
        distance = torch.bmm(block, right[clouds], out=distances[:size].view(shape))
        # No negative numbers: the bits of the others are integers in the same order.
        flat = distance.clamp_(min=0).view(-1, N)
        found[clouds, rows] = _smallest(flat, keys[:size].view(-1, N), k).view(*shape[:2], k)
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
    _partition(keys.numpy(), taken - 1)
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


def _partition(keys: np.ndarray, kth: int) -> None:
    """Partition each row in place, by as many threads as torch uses; NumPy releases the interpreter's lock."""
    threads = torch.get_num_threads()
    if threads == 1 or keys.size < _BLOCK // 4:
        keys.partition(kth, axis=1)
        return
    parts = np.array_split(keys, threads)
    others = [_threads(os.getpid(), threads).submit(part.partition, kth, 1) for part in parts[1:]]
    parts[0].partition(kth, axis=1)
    for other in others:
        other.result()


@functools.lru_cache(maxsize=1)
def _threads(process: int, number: int) -> ThreadPoolExecutor:
    """Threads of this process: those of a process that was forked from do not run in it."""
    return ThreadPoolExecutor(number - 1, thread_name_prefix="zoo-knn")
