"""Twenty parametric solids as triangle meshes of random proportions.

All are built by three constructions: `revolve` rotates a profile about the vertical axis (with 3, 4 or 6 segments this
gives pyramids and prisms), `extrude` gives a drawing of rectangles a thickness, and `sweep` moves a circle along a
curve. They are meshes and not formulas, because sampling triangles by area is uniform after any stretching of the mesh,
unlike sampling the parameters of a curved surface.

Shapes: a mesh is (F, 3, 3), three corners of each of F triangles; the vertical axis is z. A circle of 32 segments
deviates by 0.5 % of its radius, far less than the noise that `zoo.datasets.shapes` adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from zoo.datasets.point_transforms import uniform

SEGMENTS = 32


@lru_cache(maxsize=64)
def _grid_faces(rows: int, columns: int) -> Tensor:
    """Two triangles per cell of a grid of vertices that is closed in its columns: (2 (rows - 1) columns, 3) indices."""
    index = torch.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1], index[1:]
    c, d = a.roll(-1, dims=1), b.roll(-1, dims=1)
    return torch.stack([torch.stack([a, b, c], dim=-1), torch.stack([b, d, c], dim=-1)]).reshape(-1, 3)


def revolve(profile: Tensor, segments: int = SEGMENTS) -> Tensor:
    """The mesh of a surface of revolution about the vertical axis.

    profile  (P, 2), radius and height of each point; a point at radius 0 gives triangles of area 0, which are never
             sampled
    """
    angle = torch.arange(segments) * (2 * math.pi / segments)
    radius, height = profile[:, 0, None], profile[:, 1, None]
    grid = torch.stack([radius * angle.cos(), radius * angle.sin(), height.expand(-1, segments)], dim=-1)
    return grid.reshape(-1, 3)[_grid_faces(len(profile), segments)]


def sweep(centre: Tensor, first: Tensor, second: Tensor, radius: float, segments: int = 12) -> Tensor:
    """The mesh of a pipe of the given radius around a curve, open at both ends.

    centre         (P, 3), points of the curve
    first, second  (P, 3), two directions at right angles to the curve and to each other
    """
    angle = (torch.arange(segments) * (2 * math.pi / segments))[:, None]
    ring = radius * (angle.cos() * first[:, None] + angle.sin() * second[:, None])
    return (centre[:, None] + ring).reshape(-1, 3)[_grid_faces(len(centre), segments)]


@lru_cache(maxsize=16)
def _extruded_faces(drawing: tuple[str, ...]) -> Tensor:
    """The outer triangles of an extruded drawing: (F, 3) indices into the (2, rows + 1, columns + 1) vertices."""
    rows, columns = len(drawing), len(drawing[0])
    vertex = torch.arange(2 * (rows + 1) * (columns + 1)).reshape(2, rows + 1, columns + 1).tolist()
    filled = {(r, c) for r in range(rows) for c in range(columns) if drawing[r][c] == "#"}
    quads = []
    for r, c in sorted(filled):
        quads += [[side[r][c], side[r][c + 1], side[r + 1][c + 1], side[r + 1][c]] for side in vertex]
        edges = {
            (r - 1, c): ((r, c), (r, c + 1)),
            (r + 1, c): ((r + 1, c), (r + 1, c + 1)),
            (r, c - 1): ((r, c), (r + 1, c)),
            (r, c + 1): ((r, c + 1), (r + 1, c + 1)),
        }
        for neighbour, ((r0, c0), (r1, c1)) in edges.items():
            if neighbour not in filled:  # the cell is at the boundary of the solid
                quads.append([vertex[0][r0][c0], vertex[0][r1][c1], vertex[1][r1][c1], vertex[1][r0][c0]])
    corners = torch.tensor(quads)
    return torch.cat([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])


def extrude(drawing: tuple[str, ...], widths: Tensor, heights: Tensor, thickness: float) -> Tensor:
    """The mesh of a drawing of filled ('#') and empty rectangles in the plane of x and z, extruded along y.

    drawing    one string per row, the top row first
    widths     (columns,)
    heights    (rows,), the top row first
    """
    x = torch.cat([torch.zeros(1), widths.cumsum(0)])
    z = heights.sum() - torch.cat([torch.zeros(1), heights.cumsum(0)])
    y = torch.tensor([0.0, thickness])
    y, z, x = torch.meshgrid(y, z, x, indexing="ij")
    return torch.stack([x, y, z], dim=-1).reshape(-1, 3)[_extruded_faces(drawing)]


def _arc(radius: float, start: float, end: float, centre: tuple[float, float] = (0.0, 0.0), steps: int = 16) -> Tensor:
    """An arc of a circle as a profile (steps + 1, 2), from angle `start` to `end` in radians above the horizontal."""
    angle = torch.linspace(start, end, steps + 1)
    return torch.stack([centre[0] + radius * angle.cos(), centre[1] + radius * angle.sin()], dim=1)


def _profile(*points: tuple[float, float]) -> Tensor:
    return torch.tensor(points)


Draw = Callable[[float, float], float]
"""draw(low, high): a uniform random number from [low, high)."""


def _prism(draw: Draw, segments: int, low: float = 0.4, high: float = 1.6) -> Tensor:
    height = 2 * draw(low, high)
    return revolve(_profile((0, 0), (1, 0), (1, height), (0, height)), segments)


def _cone(draw: Draw, segments: int) -> Tensor:
    return revolve(_profile((0, 0), (1, 0), (0, draw(1.0, 2.6))), segments)


def _sphere(draw: Draw) -> Tensor:
    return revolve(_arc(1.0, -math.pi / 2, math.pi / 2))


def _ellipsoid(draw: Draw) -> Tensor:
    axes = torch.tensor([1.0, draw(0.55, 0.95), draw(0.55, 1.6)])
    return _sphere(draw) * axes


def _frustum(draw: Draw) -> Tensor:
    top, height = draw(0.2, 0.85), draw(0.8, 2.2)
    return revolve(_profile((0, 0), (1, 0), (top, height), (0, height)))


def _torus(draw: Draw) -> Tensor:
    return revolve(_arc(draw(0.2, 0.45), 0.0, 2 * math.pi, (1.0, 0.0)))


def _capsule(draw: Draw) -> Tensor:
    half = draw(0.25, 1.2)
    bottom, top = _arc(1.0, -math.pi / 2, 0.0, (0.0, -half)), _arc(1.0, 0.0, math.pi / 2, (0.0, half))
    return revolve(torch.cat([bottom, top]))


def _dome(draw: Draw) -> Tensor:
    return revolve(torch.cat([_profile((0, 0)), _arc(1.0, draw(-0.3, 0.15), math.pi / 2)]))


def _tube(draw: Draw) -> Tensor:
    inner, height = draw(0.45, 0.8), draw(0.5, 2.4)
    return revolve(_profile((inner, 0), (1, 0), (1, height), (inner, height), (inner, 0)))


def _helix(draw: Draw) -> Tensor:
    turns, pitch = draw(1.25, 2.75), draw(0.5, 0.9)
    t = torch.linspace(0.0, turns * 2 * math.pi, int(turns * 20))
    zero = torch.zeros_like(t)
    outward = torch.stack([t.cos(), t.sin(), zero], dim=1)
    along = torch.stack([-t.sin(), t.cos(), zero + pitch / (2 * math.pi)], dim=1)
    along /= along.norm(dim=1, keepdim=True)
    centre = outward + torch.stack([zero, zero, pitch * t / (2 * math.pi)], dim=1)
    return sweep(centre, outward, torch.linalg.cross(outward, along), draw(0.12, 0.22))


def _extruded(draw: Draw, *drawing: str) -> Tensor:
    widths = torch.tensor([draw(0.4, 1.0) for _ in drawing[0]])
    heights = torch.tensor([draw(0.4, 1.0) for _ in drawing])
    return extrude(drawing, widths, heights, draw(0.4, 1.2))


SOLIDS: dict[str, Callable[[Draw], Tensor]] = {
    "arch": lambda draw: _extruded(draw, "###", "#.#"),
    "box": lambda draw: _prism(draw, 4, 0.35, 1.4),
    "capsule": _capsule,
    "cone": lambda draw: _cone(draw, SEGMENTS),
    "cross": lambda draw: _extruded(draw, ".#.", "###", ".#."),
    "cylinder": lambda draw: _prism(draw, SEGMENTS),
    "dome": _dome,
    "ellipsoid": _ellipsoid,
    "frustum": _frustum,
    "helix": _helix,
    "hexagonal_prism": lambda draw: _prism(draw, 6),
    "l_block": lambda draw: _extruded(draw, "#.", "##"),
    "pyramid": lambda draw: _cone(draw, 4),
    "sphere": _sphere,
    "stairs": lambda draw: _extruded(draw, "..#", ".##", "###"),
    "t_block": lambda draw: _extruded(draw, "###", ".#."),
    "tetrahedron": lambda draw: _cone(draw, 3),
    "torus": _torus,
    "triangular_prism": lambda draw: _prism(draw, 3),
    "tube": _tube,
}


def solid(name: str, generator: torch.Generator, *, stretch: float = 0.12) -> Tensor:
    """The mesh (F, 3, 3) of one solid of random proportions, each axis scaled by up to 1 +- `stretch`."""

    def draw(low: float, high: float) -> float:
        return float(uniform(1, low, high, generator))

    mesh = SOLIDS[name](draw)
    return mesh * uniform(3, 1 - stretch, 1 + stretch, generator)
