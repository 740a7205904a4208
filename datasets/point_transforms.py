"""Functions of point clouds: normalisation, sampling, augmentation. Random numbers come from the `generator` argument.

Shapes: a cloud is (3, N), coordinates x y z first. The vertical axis is z, as in Princeton's ModelNet meshes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.errors import ZooError

VERTICAL = 2


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """`count` uniform random numbers from [low, high): float32 (count,)."""
    return torch.rand(count, generator=generator) * (high - low) + low


def check_cloud(cloud: Tensor, name: str) -> Tensor:
    """`cloud` itself; a ZooError that begins with `name` if a coordinate is NaN or infinite."""
    bad = ~torch.isfinite(cloud)
    if bad.any():
        raise ZooError(f"{name} holds {int(bad.sum())} coordinates that are NaN or infinite; remove or repair it")
    return cloud


def normalise(clouds: Tensor) -> Tensor:
    """Clouds (..., 3, N) translated to mean 0 and scaled so that the farthest point has distance 1.

    A cloud whose points all coincide is only translated.
    """
    centred = clouds - clouds.mean(dim=-1, keepdim=True)
    radius = centred.norm(dim=-2, keepdim=True).amax(dim=-1, keepdim=True)
    return centred / torch.where(radius > 0, radius, torch.ones_like(radius))


def scale_and_translate(cloud: Tensor, generator: torch.Generator) -> Tensor:
    """Each axis scaled by a factor from 2/3 to 3/2, then translated by up to 0.2.

    Source: `translate_pointcloud` of the DGCNN authors' PyTorch code (pytorch/data.py).
    """
    scale = uniform(3, 2 / 3, 3 / 2, generator)
    shift = uniform(3, -0.2, 0.2, generator)
    return cloud * scale[:, None] + shift[:, None]


def jitter(cloud: Tensor, generator: torch.Generator, *, sigma: float = 0.01, limit: float = 0.05) -> Tensor:
    """Gaussian noise of standard deviation `sigma` on every coordinate, clipped at `limit`.

    Source: `jitter_pointcloud` of the DGCNN authors' PyTorch code, which clips at 0.02 (PointNet: 0.05).
    """
    noise = torch.randn(cloud.shape, generator=generator) * sigma
    return cloud + noise.clamp_(-limit, limit)


def rotate(cloud: Tensor, angle: float, *, axis: int = VERTICAL) -> Tensor:
    """Rotated by `angle` radians about a coordinate axis, anticlockwise seen from its positive end."""
    cos, sin = math.cos(angle), math.sin(angle)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotated = cloud.clone()
    rotated[first] = cos * cloud[first] - sin * cloud[second]
    rotated[second] = sin * cloud[first] + cos * cloud[second]
    return rotated


def rotate_randomly(cloud: Tensor, generator: torch.Generator, *, axis: int = VERTICAL) -> Tensor:
    """Rotated about a coordinate axis by a random angle from [0, 2 pi)."""
    return rotate(cloud, float(uniform(1, 0.0, 2 * math.pi, generator)), axis=axis)


def shuffle(cloud: Tensor, generator: torch.Generator) -> Tensor:
    """The same points in random order."""
    return cloud[:, torch.randperm(cloud.shape[1], generator=generator)]


def subsample(cloud: Tensor, points: int, generator: torch.Generator) -> Tensor:
    """`points` of the N points, sampled without replacement, in random order: (3, points)."""
    if points > cloud.shape[1]:
        raise ZooError(f"a cloud of {cloud.shape[1]} points has no {points} to choose")
    return cloud[:, torch.randperm(cloud.shape[1], generator=generator)[:points]]


def partial_view(cloud: Tensor, points: int, generator: torch.Generator) -> Tensor:
    """The `points` points that are farthest along a random direction, as a view from one side: (3, points)."""
    direction = torch.randn(3, generator=generator)
    return cloud[:, (direction @ cloud).topk(points, sorted=False).indices]


def sample_surface(corners: Tensor, points: int, generator: torch.Generator) -> Tensor:
    """Points sampled uniformly by area on a triangle mesh: (3, points).

    corners  (F, 3, 3), the three corners of each of F triangles

    torch_geometric's SamplePoints, which uses the global generator, gives the same points for the same seed.
    """
    origin = corners[:, 0]
    sides = corners[:, 1:] - origin[:, None]
    area = torch.linalg.cross(sides[:, 0], sides[:, 1]).norm(dim=1)
    triangle = torch.multinomial(area, points, replacement=True, generator=generator)
    weight = torch.rand(points, 2, generator=generator)
    outside = weight.sum(dim=1, keepdim=True) > 1
    weight = torch.where(outside, 1 - weight, weight)  # reflected from the other half of the parallelogram
    return (origin[triangle] + (weight[:, :, None] * sides[triangle]).sum(dim=1)).T
