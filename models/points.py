"""Neighbour search and sampling on point sets, in plain torch.

torch_geometric's versions need compiled extensions that pip does not bring.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import ZooError

# One block of distances holds at most this many numbers (64 MiB in float32), whatever the size of the cloud.
BLOCK = 16 * 1024 * 1024


def knn(x: Tensor, k: int) -> Tensor:
    """Indices of the k nearest points of each point, itself among them.

    x (B, C, N) -> (B, N, k), by squared Euclidean distance in the C channels; the order within the k is unspecified.
    The N x N distances are computed in blocks of rows, so memory grows with N and not with its square.
    Raises ZooError if the cloud has fewer than k points.
    """
    B, _, N = x.shape
    if k > N:
        raise ZooError(f"The cloud has {N} points, the network looks at k = {k} neighbours: give at least {k} points.")
    points = x.transpose(1, 2)  # B N C
    # |x_i - x_j|^2 = |x_i|^2 - 2 x_i.x_j + |x_j|^2, and |x_i|^2 does not change the order within row i.
    half_norm = x.square().sum(1, keepdim=True) * 0.5  # B 1 N
    step = max(1, BLOCK // (B * N))
    blocks = [
        torch.topk(torch.baddbmm(half_norm, points[:, i : i + step], x, beta=-1), k, dim=2, sorted=False).indices
        for i in range(0, N, step)
    ]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 1)


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
    rows = torch.arange(B, device=x.device)
    chosen = torch.empty(B, n, dtype=torch.long, device=x.device)
    current = (x - x.mean(2, keepdim=True)).square().sum(1).argmax(1)
    nearest = torch.full((B, N), float("inf"), device=x.device, dtype=x.dtype)
    for step in range(n):
        chosen[:, step] = current
        nearest = torch.minimum(nearest, (x - x[rows, :, current].unsqueeze(2)).square().sum(1))
        current = nearest.argmax(1)
    return chosen


def ball(x: Tensor, centres: Tensor, radius: float, k: int) -> Tensor:
    """Indices (B, M, k) of up to k points within the radius of each centre, the lowest indices first.

    x (B, C, N), centres (B, C, M). Where fewer than k lie within, the first is repeated, as in PointNet++
    (Qi et al. 2017, section 3.2); where none does, the nearest point is.
    """
    N = x.shape[2]
    distance = torch.cdist(centres.transpose(1, 2), x.transpose(1, 2))  # B M N
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
