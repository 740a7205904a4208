"""Neighbour search and sampling on point sets, in plain torch.

torch_geometric's versions need compiled extensions that pip does not bring.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import ZooError
from zoo.models import autotune

# One block of distances holds at most this many numbers (16 MiB in float32), whatever the size of the cloud.
BLOCK = 4 * 1024 * 1024


def is_exporting() -> bool:
    """Whether torch.export or torch.jit.trace records this, for batches of any size and for runtimes other than torch.

    Then a search is written plainly: in one piece, without what depends on the batch, without reading a float's bits
    as an integer, and with operators that other runtimes have. Its rounding may differ, so that among neighbours whose
    distances are equal up to rounding another one may be taken.
    """
    return torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def use_blocks(x: Tensor) -> bool:
    """Whether work on x is better done in pieces that stay in a processor's caches: on a CPU, where nothing records or
    compiles it."""
    return x.device.type == "cpu" and not is_compiling()


def is_compiling() -> bool:
    """Whether what runs now is compiled or traced into a program: nothing may depend on what is measured meanwhile."""
    return torch.compiler.is_compiling() or is_exporting()


def knn(x: Tensor, k: int) -> Tensor:
    """Indices of the k nearest points of each point, itself among them.

    x (B, C, N) -> (B, N, k), by squared Euclidean distance in the C channels, in float32 or better whatever autocast
    says; the order within the k is unspecified, and so is the choice among equal distances. Only a block of the N x N
    distances is alive at a time, so memory grows with N and not with its square.
    Raises ZooError if the cloud has fewer than k points.
    """
    N = x.shape[2]
    if k > N:
        raise ZooError(f"The cloud has {N} points, the network looks at k = {k} neighbours: give at least {k} points.")
    x = x.detach()
    with torch.autocast(x.device.type, enabled=False):
        x = x if x.dtype == torch.float64 else x.float()
        if x.device.type != "cuda" or is_compiling():
            return _blocks(x, k, _folds(N, k))
        return autotune.autotune(("knn", *x.shape, k, x.dtype, x.device), knn_implementations(x, k), x.device)


def knn_implementations(x: Tensor, k: int) -> dict[str, Callable[[], Tensor]]:
    """The implementations of `knn` by name, plain torch first: x (B, C, N) float32 or float64."""
    implementations = {
        "two levels": lambda: _blocks(x, k, _folds(x.shape[2], k)),
        "one level": lambda: _blocks(x, k, 1),
    }
    kernels = autotune.kernels()
    if kernels is not None and x.dtype == torch.float32 and k <= kernels.MAX_NEIGHBOURS:
        implementations["triton"] = lambda: kernels.nearest(x.transpose(1, 2), k)
    return implementations


def _folds(N: int, k: int) -> int:
    """Into how many layers a row of N distances is folded: with s layers N / s maxima and k s candidates are sorted
    through, fewest together at s^2 = N / k. A number near it that divides N needs no columns to fill up."""
    if is_exporting():
        return 1
    best = round(math.sqrt(int(N) / k))
    if best < 3:
        return 1
    for away in range(best // 3 + 1):
        for folds in (best + away, best - away):
            if N % folds == 0:
                return folds
    return best


def _blocks(x: Tensor, k: int, folds: int) -> Tensor:
    """The search over blocks of rows, whose N x N distances are never all alive."""
    B, _, N = x.shape
    points = x.transpose(1, 2)  # B N C
    # |x_i - x_j|^2 = |x_i|^2 - 2 x_i.x_j + |x_j|^2, and |x_i|^2 does not change the order within row i.
    half_norm = x.square().sum(1, keepdim=True) * 0.5  # B 1 N
    if extra := -N % folds:  # columns infinitely far away make the row foldable
        x, half_norm = F.pad(x, (0, extra)), F.pad(half_norm, (0, extra), value=math.inf)
    # An exported program takes any batch and any number of points, so it has no blocks to count.
    step = N if is_exporting() else max(1, BLOCK // (B * N))
    found = []
    for block in [points] if step >= N else torch.split(points, step, 1):
        found.append(topk_indices(torch.baddbmm(half_norm, block, x, beta=-1), k, folds))
    index = found[0] if len(found) == 1 else torch.cat(found, 1)
    # A row of NaN has no order; its neighbours must exist all the same.
    return index.clamp_(max=N - 1) if extra else index


def topk_indices(values: Tensor, k: int, folds: int) -> Tensor:
    """Indices (..., k) of the k largest of each row (..., n), in any order.

    Folded into s layers, a row has n / s places with s values each. The k places with the largest maxima hold the k
    largest values, since each of these k maxima is no smaller than any value elsewhere; so two short sorts replace
    one long one. n has to be a multiple of s, and n / s no less than k.
    """
    if folds == 1:
        return torch.topk(sortable_bits(values), k, dim=-1, sorted=False).indices
    places = values.shape[-1] // folds
    maxima = values.view(*values.shape[:-1], folds, places).amax(-2)
    place = torch.topk(sortable_bits(maxima), k, dim=-1, sorted=False).indices
    layer = places * torch.arange(folds, device=values.device)
    candidates = (place.unsqueeze(-1) + layer).flatten(-2)
    best = torch.topk(sortable_bits(values.gather(-1, candidates)), k, dim=-1, sorted=False).indices
    return candidates.gather(-1, best)


def sortable_bits(values: Tensor) -> Tensor:
    """Integers that sort as these floats do: sorting them takes half the time, for they hold no NaN to look out for.

    In an exported program the floats themselves.
    """
    if is_exporting():
        return values
    bits = values.view(torch.int64 if values.dtype == torch.float64 else torch.int32)
    lowest = torch.iinfo(bits.dtype).max
    return bits ^ ((bits >> (torch.iinfo(bits.dtype).bits - 1)) & lowest)


def farthest_points(x: Tensor, n: int) -> Tensor:
    """Indices (B, n) of points that are chosen one by one, each the farthest from those before it.

    x (B, C, N). Starts at the point farthest from the centroid, so the same cloud always gives the same points
    (Qi et al. 2017, PointNet++, section 3.2, which starts at random).
    Raises ZooError if n > N.
    """
    B, _, N = x.shape
    if n > N:
        raise ZooError(f"The cloud has {N} points, the network samples {n} of them: give at least {n} points.")
    x = x.detach()
    current = (x - x.mean(2, keepdim=True)).square().sum(1).argmax(1, keepdim=True)  # B 1
    nearest = torch.full((B, N), float("inf"), device=x.device, dtype=x.dtype)
    chosen = [current]
    while len(chosen) < n:
        nearest = torch.minimum(nearest, (x - gather(x, current)).square().sum(1))
        current = nearest.argmax(1, keepdim=True)
        chosen.append(current)
    return torch.cat(chosen, 1)


def ball_query(x: Tensor, centres: Tensor, radius: float, k: int) -> Tensor:
    """Indices (B, M, k) of up to k points within the radius of each centre, the lowest indices first.

    x (B, C, N), centres (B, C, M). Where fewer than k lie within, the first is repeated, as in PointNet++
    (Qi et al. 2017, section 3.2); where none does, the nearest point is.
    """
    N = x.shape[2]
    if is_exporting():  # few runtimes have cdist
        distance = (centres.unsqueeze(3) - x.unsqueeze(2)).square().sum(1).sqrt()  # B M N
    else:
        distance = torch.cdist(centres.transpose(1, 2), x.transpose(1, 2))
    index = torch.arange(N, device=x.device).expand_as(distance)
    index = index.masked_fill(distance > radius, N)
    index = torch.topk(index, min(k, N), dim=2, largest=False, sorted=True).values
    if k > N:
        index = torch.cat([index, index[:, :, :1].expand(-1, -1, k - N)], 2)
    first = torch.where(index[:, :, :1] == N, distance.argmin(2, keepdim=True), index[:, :, :1])
    return torch.where(index == N, first, index)


def gather(x: Tensor, index: Tensor) -> Tensor:
    """The points at the given indices: x (B, C, N), index (B, ...) -> (B, C, ...)."""
    B, C, _ = x.shape
    flat = index.reshape(B, 1, -1).expand(-1, C, -1)
    return x.gather(2, flat).reshape(B, C, *index.shape[1:])
