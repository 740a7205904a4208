"""Clouds from meshes: points sampled uniformly on the surface, and kept in the folder once they are sampled."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.datasets.files import LARGEST, array_limit, read_npy, read_off
from zoo.datasets.point_transforms import normalise
from zoo.errors import ZooError
from zoo.utils import derive_seed, new_file

MAX_TRIANGLES = 2**24  # what torch.multinomial chooses from
_FLAT = 1e-12  # an area below this share of the squared extent is rounding


def _torch_geometric() -> tuple[Any, Any]:
    """Data and SamplePoints, imported when a mesh is first sampled because importing them takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it uses torch.jit.script, which newer torch deprecates
        from torch_geometric.data import Data
        from torch_geometric.transforms import SamplePoints
    return Data, SamplePoints


def read_mesh(path: Path) -> tuple[Tensor, Tensor]:
    """Vertices float32 (V, 3) and triangles int64 (3, F) of an OFF file; a ZooError with file and line if it is broken.

    Variants of the format: `zoo.datasets.files.read_off`.
    """
    vertices, triangles = read_off(path)
    return torch.from_numpy(vertices).float(), torch.from_numpy(triangles.T.copy())


def sample_triangles(vertices: Tensor, triangles: Tensor, points: int, *, source: str, seed: int) -> Tensor:
    """Points sampled uniformly by area on a mesh, normalised: (3, points); vertices (V, 3), triangles (3, F).

    Raises ZooError, which begins with `source`, for a mesh without area or with more than MAX_TRIANGLES.
    """
    count = triangles.shape[1]
    if count > MAX_TRIANGLES:
        raise ZooError(f"{source} has {count} triangles, and {MAX_TRIANGLES} can be sampled; simplify it")
    vertices = vertices - vertices.mean(dim=0)  # a centre far from 0 would lose digits in float32
    corners = (vertices / vertices.abs().max())[triangles.T].double()
    sides = corners[:, 1:] - corners[:, :1]
    area = float(torch.linalg.cross(sides[:, 0], sides[:, 1]).norm(dim=1).sum()) / 2
    if not area > _FLAT:  # NaN where all vertices coincide
        raise ZooError(f"{source} has no surface to sample: none of its {count} triangles has an area")
    Data, SamplePoints = _torch_geometric()
    with torch.random.fork_rng(devices=[]):  # SamplePoints uses the global generator
        torch.manual_seed(seed)
        sampled = SamplePoints(points)(Data(pos=vertices, face=triangles)).pos
    return normalise(sampled.T.contiguous())


def sample_mesh(path: Path, points: int, *, name: str, seed: int = 0) -> Tensor:
    """Points sampled uniformly on the surface, normalised: (3, points), a function of the mesh, `name` and `seed`."""
    vertices, triangles = read_mesh(path)
    return sample_triangles(vertices, triangles, points, source=str(path), seed=derive_seed("mesh", seed, name, points))


def sample_meshes(meshes: list[Path], points: int, *, seed: int) -> Tensor:
    """Clouds (n, 3, points) sampled from the n meshes of one folder, and kept there."""
    return kept_clouds(meshes, points, lambda mesh: sample_mesh(mesh, points, name=mesh.name, seed=seed), seed=seed)


def kept_clouds(files: list[Path], points: int, read: Callable[[Path], Tensor], *, seed: int = 0) -> Tensor:
    """Clouds (n, 3, points), `read` from the n files of one folder.

    They are saved in the folder, and read from there as long as names, sizes and times of the files are the same
    and what was saved is whole; the folder may be another's.
    """
    try:
        state = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError as error:
        raise ZooError(f"cannot read {error.filename}: {error.strerror or error}") from error
    digest = hashlib.sha256(repr((state, seed, points)).encode()).hexdigest()[:16]
    cache = files[0].parent / f".zoo-{digest}.npy"
    shape = (len(files), 3, points)
    if (kept := _kept(cache, shape)) is not None:
        return kept
    clouds = torch.stack([read(file) for file in files])
    try:
        with new_file(cache) as file:
            np.save(file, clouds.numpy())
    except ZooError:
        pass  # a folder that cannot be written: the clouds are read again next time
    return clouds


def _kept(cache: Path, shape: tuple[int, ...]) -> Tensor | None:
    """The clouds in a file that `kept_clouds` saved; None where it is missing or damaged."""
    if not cache.is_file():
        return None
    try:
        with cache.open("rb") as file:
            found = read_npy(file, array_limit(cache), lambda *kind: kind == (shape, np.float32), "these clouds were")
    except Exception:  # numpy raises for a header what it happens to meet
        return None
    return torch.from_numpy(found.copy(order="C")) if (np.abs(found) <= LARGEST).all() else None
