"""Point clouds: normalise, sample, cut and augment. Pure functions; the generator is passed in.

Shapes: a cloud is (3, N), channels first, x y z. The vertical axis is z, as in Princeton's ModelNet meshes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.errors import ZooError

VERTICAL = 2


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """`count` numbers from [low, high), float32 (count,)."""
    return torch.rand(count, generator=generator) * (high - low) + low


def check_cloud(cloud: Tensor, name: str) -> Tensor:
    """`cloud` itself; ZooError naming the sample if a coordinate is NaN or infinite."""
    bad = ~torch.isfinite(cloud)
    if bad.any():
        raise ZooError(f"{name} holds {int(bad.sum())} coordinates that are NaN or infinite; remove or repair it")
    return cloud


def normalise(clouds: Tensor) -> Tensor:
    """Centred on the mean of its points and scaled so that the farthest lies on the unit sphere.

    clouds: (..., 3, N). A cloud whose points all coincide is centred and stays a point.
    """
    centred = clouds - clouds.mean(dim=-1, keepdim=True)
    radius = centred.norm(dim=-2, keepdim=True).amax(dim=-1, keepdim=True)
    return centred / torch.where(radius > 0, radius, torch.ones_like(radius))


def scale_and_translate(cloud: Tensor, generator: torch.Generator) -> Tensor:
    """Each axis scaled by 2/3 to 3/2, then moved by up to 0.2.

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
    """Turned by `angle` radians about a coordinate axis, anticlockwise seen from its positive end."""
    cos, sin = math.cos(angle), math.sin(angle)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turned = cloud.clone()
    turned[first] = cos * cloud[first] - sin * cloud[second]
    turned[second] = sin * cloud[first] + cos * cloud[second]
    return turned


def rotate_randomly(cloud: Tensor, generator: torch.Generator, *, axis: int = VERTICAL) -> Tensor:
    """Turned about a coordinate axis (the vertical) by any angle."""
    return rotate(cloud, float(uniform(1, 0.0, 2 * math.pi, generator)), axis=axis)


def shuffle(cloud: Tensor, generator: torch.Generator) -> Tensor:
    """The same points in another order."""
    return cloud[:, torch.randperm(cloud.shape[1], generator=generator)]


def subsample(cloud: Tensor, points: int, generator: torch.Generator) -> Tensor:
    """`points` of the N points, each at most once, in random order: (3, points)."""
    if points > cloud.shape[1]:
        raise ZooError(f"a cloud of {cloud.shape[1]} points has no {points} to choose")
    return cloud[:, torch.randperm(cloud.shape[1], generator=generator)[:points]]


def drop_points(cloud: Tensor, generator: torch.Generator, *, most: float = 0.875) -> Tensor:
    """Up to the share `most` of the points put on the first point, so that N stays: (3, N).

    Source: `random_point_dropout` of PointNet++ (charlesq34/pointnet2, utils/provider.py).
    """
    share = float(uniform(1, 0.0, most, generator))
    lost = torch.rand(cloud.shape[1], generator=generator) < share
    return torch.where(lost, cloud[:, :1], cloud)


def partial_view(cloud: Tensor, points: int, generator: torch.Generator) -> Tensor:
    """What lies on the near side of a plane of random direction: the first `points` along it, (3, points)."""
    direction = torch.randn(3, generator=generator)
    return cloud[:, (direction @ cloud).topk(points, sorted=False).indices]


def sample_surface(corners: Tensor, points: int, generator: torch.Generator) -> Tensor:
    """`points` places uniform on the area of a triangle mesh: (3, points).

    corners: (F, 3, 3), the three corners of each of F triangles. As `torch_geometric`'s SamplePoints,
    which draws from the global generator, and the same numbers for the same seed.
    """
    origin = corners[:, 0]
    sides = corners[:, 1:] - origin[:, None]
    area = torch.linalg.cross(sides[:, 0], sides[:, 1]).norm(dim=1)
    chosen = torch.multinomial(area, points, replacement=True, generator=generator)
    weight = torch.rand(points, 2, generator=generator)
    outside = weight.sum(dim=1, keepdim=True) > 1
    weight = torch.where(outside, 1 - weight, weight)  # the other half of the parallelogram, folded back
    return (origin[chosen] + (weight[:, :, None] * sides[chosen]).sum(dim=1)).T
