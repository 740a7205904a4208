"""Neighbour search and sampling on point sets, in plain torch.

torch_geometric's versions need compiled extensions that pip does not install.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import ZooError
from zoo.models import kernels

# One block of distances holds at most this many numbers (16 MiB in float32), whatever the size of the cloud.
BLOCK = 4 * 1024 * 1024


def is_exporting() -> bool:
    """Whether torch.export or torch.jit.trace records the operations, for runtimes other than torch and any batch size.

    A search then runs in one piece, independent of the batch size, and uses only operators that other runtimes have: no
    float is reinterpreted as an integer. Its rounding may differ, so that among neighbours whose distances are equal up
    to rounding another one may be found.
    """
    return torch.compiler.is_exporting() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def is_compiling() -> bool:
    """Whether torch.compile, torch.export or torch.jit.trace records the operations, so that nothing can be timed."""
    return torch.compiler.is_compiling() or is_exporting()


def is_compiling_for_any_size(x: Tensor) -> bool:
    """Whether torch.compile records the operations for any size of x, as it does from the second size on that it meets.

    The number of blocks and folds of a search depend on the size, and deriving what holds for all sizes would take
    torch minutes.
    """
    if not torch.compiler.is_dynamo_compiling() or is_exporting():
        return False
    from torch.fx.experimental.symbolic_shapes import has_static_value  # which imports sympy

    return not (has_static_value(x.shape[0]) and has_static_value(x.shape[-1]) and has_static_value(x.shape[-2]))


def use_blocks(x: Tensor) -> bool:
    """Whether to process x in blocks that stay in a processor's caches: on a CPU, if nothing records the operations."""
    return x.device.type == "cpu" and not is_compiling()


def knn(x: Tensor, k: int) -> Tensor:
    """Indices of the k nearest points of each point, the point itself included: x (B, C, N) -> (B, N, k).

    The distance is the squared Euclidean one in the C channels, computed in float32 or float64 also under autocast. The
    order of the k indices is unspecified, and so is the choice among equal distances. Memory grows with N, not with
    N^2, because only a block of the N x N distances exists at a time.

    Raises ZooError if the cloud has fewer than k points.
    """
    N = x.shape[2]
    if k > N:
        raise ZooError(f"The cloud has {N} points, the network needs k = {k} neighbours: give at least {k} points.")
    if not is_exporting() and x.shape[0] == 0:  # an exported program takes any batch size, and must not ask for it
        return torch.empty(0, N, k, dtype=torch.int64, device=x.device)
    x = x.detach()
    with torch.autocast(x.device.type, enabled=False):
        x = x if x.dtype == torch.float64 else x.float()
        dynamo = torch.compiler.is_dynamo_compiling() and not is_exporting()
        if dynamo and (x.device.type == "cpu" or is_compiling_for_any_size(x)):
            return _search(x, k)  # type: ignore[no-any-return]
        if x.device.type != "cuda" or is_compiling():
            return _search_in_torch_or_numpy(x, k)
        return kernels.run_fastest(("knn", *x.shape, k, x.dtype, x.device), knn_implementations(x, k), x.device)


@torch.library.custom_op("zoo::knn", mutates_args=(), schema="(Tensor x, int k) -> Tensor")
def _search(x: Tensor, k: int) -> Tensor:
    """`knn` as one operator that a compiler does not look into."""
    with torch.autocast(x.device.type, enabled=False):
        return _search_in_torch_or_numpy(x, k)


@_search.register_fake
def _(x: Tensor, k: int) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[2], k, dtype=torch.int64)


def _search_in_torch_or_numpy(x: Tensor, k: int) -> Tensor:
    """`knn` by NumPy's partition where that is fast and nothing records the operations, or else in plain torch."""
    if not is_compiling() and kernels.is_faster(x):
        return kernels.nearest(x, k)
    return _blocks(x, k, _folds(x.shape[2], k))


def knn_implementations(x: Tensor, k: int) -> dict[str, Callable[[], Tensor]]:
    """The implementations of `knn` by name, plain torch first: x (B, C, N) float32 or float64."""
    implementations = {
        "two levels": lambda: _blocks(x, k, _folds(x.shape[2], k)),
        "one level": lambda: _blocks(x, k, 1),
    }
    triton = kernels.load_triton()
    if triton is not None and x.dtype == torch.float32 and k <= triton.MAX_NEIGHBOURS:
        implementations["triton"] = lambda: triton.nearest(x.transpose(1, 2), k)
    return implementations


def _folds(N: int, k: int) -> int:
    """The number s of layers into which `topk_indices` folds a row of N distances.

    The two sorts have N / s and k s values, fewest together at s = sqrt(N / k). A divisor of N near that value is
    preferred, because the row then needs no padding.
    """
    if is_exporting():
        return 1
    best = round(math.sqrt(int(N) / k))
    if best < 3:
        return 1
    for offset in range(best // 3 + 1):
        for folds in (best + offset, best - offset):
            if N % folds == 0:
                return folds
    return best


def _blocks(x: Tensor, k: int, folds: int) -> Tensor:
    """`knn` by blocks of rows of the N x N distances: x (B, C, N), `folds` as in `topk_indices` -> (B, N, k)."""
    B, _, N = x.shape
    points = x.transpose(1, 2)  # B N C
    # |x_i - x_j|^2 = |x_i|^2 - 2 x_i.x_j + |x_j|^2, where |x_i|^2 does not change the order within row i.
    half_norm = x.square().sum(1, keepdim=True) * 0.5  # B 1 N
    if extra := -N % folds:  # pad each row with infinitely distant points to a multiple of folds
        x, half_norm = F.pad(x, (0, extra)), F.pad(half_norm, (0, extra), value=math.inf)
    # An exported program takes any batch size and any number of points, so its number of blocks would not be fixed.
    step = N if is_exporting() else max(1, BLOCK // (B * N))
    blocks = []
    for block in [points] if step >= N else torch.split(points, step, 1):
        blocks.append(topk_indices(torch.baddbmm(half_norm, block, x, beta=-1), k, folds))
    index = blocks[0] if len(blocks) == 1 else torch.cat(blocks, 1)
    # Where distances are NaN the padding may have been taken: any index in range is as good.
    return index.clamp_(max=N - 1) if extra else index


def topk_indices(values: Tensor, k: int, folds: int) -> Tensor:
    """Indices (..., k) of the k largest values of each row (..., n), in any order.

    A row is folded into s = `folds` layers, so that it has n / s columns of s values each. The k columns with the
    largest maxima contain the k largest values, since each of these k maxima is no smaller than any value in another
    column. Two short sorts thereby replace one long sort. n must be a multiple of s, and n / s at least k.
    """
    if folds == 1:
        return torch.topk(sortable_bits(values), k, dim=-1, sorted=False).indices
    columns = values.shape[-1] // folds
    maxima = values.view(*values.shape[:-1], folds, columns).amax(-2)
    column = torch.topk(sortable_bits(maxima), k, dim=-1, sorted=False).indices
    layer = columns * torch.arange(folds, device=values.device)
    candidates = (column.unsqueeze(-1) + layer).flatten(-2)
    best = torch.topk(sortable_bits(values.gather(-1, candidates)), k, dim=-1, sorted=False).indices
    return candidates.gather(-1, best)


def sortable_bits(values: Tensor) -> Tensor:
    """Integers in the same order as the floats `values`; in an exported program `values` itself.

    Sorting integers takes half the time, because the comparison needs no case for NaN.
    """
    if is_exporting():
        return values
    bits = values.view(torch.int64 if values.dtype == torch.float64 else torch.int32)
    lowest = torch.iinfo(bits.dtype).max
    return bits ^ ((bits >> (torch.iinfo(bits.dtype).bits - 1)) & lowest)


def farthest_points(x: Tensor, n: int) -> Tensor:
    """Farthest point sampling: x (B, C, N) -> indices (B, n) of points, each the farthest from all sampled before it.

    Source: Qi et al. 2017, PointNet++, section 3.2. It starts at the point farthest from the centroid and not at a
    random one, so that the same cloud always gives the same points.

    Raises ZooError if n > N.
    """
    B, _, N = x.shape
    if n > N:
        raise ZooError(f"The cloud has {N} points, the network samples {n} of them: give at least {n} points.")
    x = x.detach()
    current = (x - x.mean(2, keepdim=True)).square().sum(1).argmax(1, keepdim=True)  # B 1
    nearest = torch.full((B, N), float("inf"), device=x.device, dtype=x.dtype)
    sampled = [current]
    while len(sampled) < n:
        nearest = torch.minimum(nearest, (x - gather(x, current)).square().sum(1))
        current = nearest.argmax(1, keepdim=True)
        sampled.append(current)
    return torch.cat(sampled, 1)


def ball_query(x: Tensor, centres: Tensor, radius: float, k: int) -> Tensor:
    """Ball query: indices (B, M, k) of up to k points within `radius` of each centre, the lowest indices first.

    x (B, C, N), centres (B, C, M). If fewer than k points lie within the radius, the first of them is repeated, as in
    PointNet++ (Qi et al. 2017, section 3.2); if none does, the nearest point is repeated.
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
    flat = index.flatten(1).unsqueeze(1).expand(-1, C, -1)
    return x.gather(2, flat).reshape(B, C, *index.shape[1:])
