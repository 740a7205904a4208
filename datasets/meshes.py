"""OFF meshes: reading them, and sampling points on their surface, with torch_geometric.

Its `parse_off` drops faces with more than four corners and fails on blank lines, comments and a missing last line end;
some ModelNet40 files have 'OFF490 518 0' on one line. The lines of a file are therefore cleaned first.
"""

from __future__ import annotations

import hashlib
import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.datasets.point_transforms import check_cloud, normalise
from zoo.errors import ZooError
from zoo.utils import derive_seed, new_file


def _torch_geometric() -> tuple[Any, Any, Any]:
    """parse_off, Data and SamplePoints, imported when a mesh is first read because importing them takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it uses torch.jit.script, which newer torch deprecates
        from torch_geometric.data import Data
        from torch_geometric.io.off import parse_off
        from torch_geometric.transforms import SamplePoints
    return parse_off, Data, SamplePoints


def clean_lines(text: str) -> list[str]:
    """The lines of an OFF file as `parse_off` expects them: 'OFF', the counts, vertices, triangles."""
    lines = [line.split("#", 1)[0].strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    if not lines or not lines[0].startswith("OFF"):
        raise ValueError("the first line does not begin with OFF")
    if lines[0] != "OFF":
        lines[:1] = ["OFF", lines[0][3:].strip()]
    vertices, faces = (int(word) for word in lines[1].split()[:2])
    if len(lines) < 2 + vertices + faces:
        raise ValueError(f"{vertices} vertices and {faces} faces are announced, {len(lines) - 2} lines follow")
    points = [" ".join(line.split()[:3]) for line in lines[2 : 2 + vertices]]
    triangles = []
    for line in lines[2 + vertices : 2 + vertices + faces]:
        words = line.split()
        corners = words[1 : 1 + int(words[0])]
        triangles += [f"3 {corners[0]} {b} {c}" for b, c in itertools.pairwise(corners[1:])]
    return ["OFF", f"{vertices} {len(triangles)} 0", *points, *triangles]


def read_mesh(path: Path) -> tuple[Tensor, Tensor]:
    """Vertices float32 (V, 3) and triangles int64 (3, F) of an OFF file; a ZooError with its path if it is broken."""
    parse_off, _, _ = _torch_geometric()
    try:
        mesh = parse_off(clean_lines(path.read_text(encoding="utf-8", errors="replace")))
        vertices, triangles = mesh.pos, mesh.face
        if triangles.numel() == 0 or not 0 <= int(triangles.min()) <= int(triangles.max()) < len(vertices):
            raise ValueError("no faces, or a face names a vertex that is not there")
    except (ValueError, IndexError, OSError) as error:
        raise ZooError(f"{path} is no readable OFF mesh: {error}") from error
    check_cloud(vertices, str(path))
    return vertices, triangles


def sample_mesh(path: Path, points: int, *, name: str, seed: int = 0) -> Tensor:
    """Points sampled uniformly on the surface, normalised: (3, points), a function of the mesh, `name` and `seed`."""
    _, Data, SamplePoints = _torch_geometric()
    vertices, triangles = read_mesh(path)
    vertices = vertices - vertices.mean(dim=0)  # a centre far from 0 would lose digits in float32
    try:
        with torch.random.fork_rng(devices=[]):  # SamplePoints uses the global generator
            torch.manual_seed(derive_seed("mesh", seed, name, points))
            sampled = SamplePoints(points)(Data(pos=vertices, face=triangles)).pos
    except RuntimeError as error:
        raise ZooError(f"{path} has no surface to sample: {error}") from error
    cloud: Tensor = normalise(sampled.T.contiguous())
    return check_cloud(cloud, str(path))


def sample_meshes(meshes: list[Path], points: int, *, seed: int) -> Tensor:
    """Clouds (n, 3, points) sampled from the n meshes of one folder.

    They are saved in the folder, and read from there as long as names, sizes and times of the meshes are the same.
    """
    state = [(mesh.name, mesh.stat().st_size, mesh.stat().st_mtime_ns) for mesh in meshes]
    digest = hashlib.sha256(repr((state, seed, points)).encode()).hexdigest()[:16]
    cache = meshes[0].parent / f".zoo-{digest}.npy"
    shape = (len(meshes), 3, points)
    if cache.is_file():
        try:
            cached = np.load(cache, allow_pickle=False)
            if cached.shape == shape and cached.dtype == np.float32:
                return torch.from_numpy(cached)
        except (OSError, ValueError, EOFError):
            pass  # a damaged cache is replaced
    sampled = torch.stack([sample_mesh(mesh, points, name=mesh.name, seed=seed) for mesh in meshes])
    try:
        with new_file(cache) as file:
            np.save(file, sampled.numpy())
    except ZooError:
        pass  # a folder that cannot be written: the clouds are sampled again next time
    return sampled
