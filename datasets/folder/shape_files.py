"""Files of meshes and clouds: read with trimesh and numpy, and as samples of a data set.

A mesh is sampled uniformly by area; of a cloud the columns after x, y, z are ignored. Axes are those of the file.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.datasets import point_transforms
from zoo.datasets.base import LabelledDataset
from zoo.datasets.files import LARGEST, read_off
from zoo.datasets.folder.listing import SHAPE_SUFFIXES
from zoo.datasets.meshes import kept_clouds, sample_triangles
from zoo.errors import ZooError, first_line
from zoo.utils import derive_seed, generator_for, progress_bar

STORED = 2048  # points kept of a shape, of which training draws; as many as Stanford's clouds of ModelNet have
_KEPT = {".off", ".obj", ".stl"}  # always meshes: slow to read, and kept in the folder once they are sampled
_HEADER = 2  # lines before the numbers of a text file: a title, the number of points, the names of columns
_KEYS = ("points", "pos", "xyz", "pc", "point_cloud", "vertices", "data")  # usual names of the cloud in an .npz file


def read_shape(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Points float64 (V, 3) of a file, and triangles int64 (F, 3) if it is a mesh.

    Raises ZooError, with the path, for a file that cannot be read, has no points, or one that is not finite.
    """
    suffix, triangles = path.suffix.lower(), None
    if suffix not in SHAPE_SUFFIXES:
        raise ZooError(f"{path} is no shape; read are {', '.join(sorted(SHAPE_SUFFIXES))}")
    try:
        if suffix == ".off":
            points, triangles = read_off(path)
        elif suffix in (".npy", ".npz"):
            points = _from_numpy(path)
        elif suffix in (".xyz", ".txt"):
            points = _from_text(path)
        else:
            points, triangles = _from_trimesh(path, suffix)
    except ZooError:
        raise
    except Exception as error:  # trimesh's parser of each format raises what it happens to meet
        raise ZooError(f"{path} is no readable {suffix[1:].upper()} file: {first_line(error)}") from error
    if not len(points):
        raise ZooError(f"{path} holds no points")
    bad = ~(np.abs(points) <= LARGEST).all(axis=1)
    if bad.any():
        where = f"point {int(bad.argmax()) + 1} is {points[bad][0].tolist()}"
        raise ZooError(f"{path} holds coordinates that are not finite, or beyond {LARGEST:g}: {where}")
    return points, triangles


def read_cloud(path: Path, points: int) -> Tensor:
    """The cloud of a file, centred and scaled to the unit sphere: float32 (3, P), in random order.

    P is STORED, or `points` if that is more; a file of fewer points gives all that it has. Which points are chosen is a
    function of the file's content, its name and P. Raises ZooError as `read_shape`, and for a mesh without area.
    """
    found, triangles = read_shape(path)
    stored = max(points, STORED)
    centred = torch.from_numpy(found - found.mean(axis=0)).float()
    if triangles is not None:
        seed = derive_seed("mesh", 0, path.name, stored)
        return sample_triangles(
            centred, torch.from_numpy(triangles.T.copy()), stored, source=str(path), seed=seed
        )
    order = torch.randperm(len(centred), generator=generator_for("cloud", path.name, stored))
    return point_transforms.normalise(centred[order[:stored]].T.contiguous())


class ShapeFiles(LabelledDataset):
    """Clouds float32 (3, points) from files of meshes and clouds (`read_cloud`).

    samples  the path and the label of every shape; all are read at once
    points   the size of a cloud: the first `points` stored ones, or with `augment` a random subset, which is scaled and
             translated as the DGCNN authors do; of a file with fewer points some are repeated

    Raises ZooError as `read_cloud`.
    """

    def __init__(
        self,
        samples: Sequence[tuple[Path, int]],
        classes: Sequence[str],
        *,
        points: int = 1024,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        if points < 1:
            raise ZooError(f"a cloud needs 1 point or more, not {points}; give for example `points=512`")
        super().__init__(classes, (3, points), augment=augment, seed=seed)
        self.samples, self.points = list(samples), points
        self.clouds = _read_all([path for path, _ in self.samples], points)

    def __len__(self) -> int:
        return len(self.samples)

    def label(self, index: int) -> int:
        return self.samples[index][1]

    def load_sample(self, index: int) -> Tensor:
        return self._enough(index)[:, : self.points].clone()

    def augmented(self, index: int, generator: torch.Generator) -> Tensor:
        chosen = point_transforms.subsample(self._enough(index), self.points, generator)
        return point_transforms.scale_and_translate(chosen, generator)

    def _enough(self, index: int) -> Tensor:
        """The stored points, repeated where they are fewer than a sample has."""
        cloud = self.clouds[index]
        return cloud.repeat(1, -(-self.points // cloud.shape[1])) if cloud.shape[1] < self.points else cloud


def _read_all(paths: list[Path], points: int) -> list[Tensor]:
    """The clouds of all files; those sampled on meshes are kept in the folders of the files, where that is possible."""
    clouds: dict[Path, Tensor] = {}
    with progress_bar(title="reading shapes", total=len(paths), unit=" files", lines=False) as bar:
        for kept, group in itertools.groupby(paths, lambda path: path.suffix.lower() in _KEPT and path.parent):
            files = list(group)
            if kept and len(files) > 1:
                sampled = kept_clouds(files, max(points, STORED), lambda path: read_cloud(path, points))
                clouds |= zip(files, sampled, strict=True)
            else:
                clouds |= {path: read_cloud(path, points) for path in files}
            bar.update(len(files))
    return [clouds[path] for path in paths]


def _from_numpy(path: Path) -> np.ndarray:
    loaded: Any = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.lib.npyio.NpzFile):
        with loaded:
            names = [name for name in (*_KEYS, *loaded.files) if name in loaded.files]
            if not names or (len(loaded.files) > 1 and names[0] not in _KEYS):
                raise ValueError(f"it holds {', '.join(loaded.files) or 'nothing'}; name the cloud 'points'")
            loaded = loaded[names[0]]
    if loaded.ndim == 2 and loaded.shape[0] == 3 != loaded.shape[1]:
        loaded = loaded.T
    if loaded.ndim != 2 or loaded.shape[1] < 3 or loaded.dtype.kind not in "fiu":
        raise ValueError(f"it holds {loaded.dtype} {loaded.shape}; numbers (N, 3), or more columns, were expected")
    return np.asarray(loaded[:, :3], dtype=np.float64)


def _from_text(path: Path) -> np.ndarray:
    text = path.read_text(encoding="utf-8-sig", errors="replace").replace(",", " ").replace(";", " ")
    lines = [line for line in text.splitlines() if line.split("#")[0].strip() and not line.startswith("//")]
    for _ in range(_HEADER):
        if lines and not _is_point(lines[0]):
            del lines[0]
    if not lines:
        raise ValueError("no line holds x, y, z")
    return np.loadtxt(io.StringIO("\n".join(lines)), usecols=(0, 1, 2), ndmin=2)


def _is_point(line: str) -> bool:
    try:
        return len([float(word) for word in line.split()[:3]]) == 3
    except ValueError:
        return False


def _from_trimesh(path: Path, suffix: str) -> tuple[np.ndarray, np.ndarray | None]:
    import trimesh  # imported here because that takes a second

    with path.open("rb") as file:
        parts = list(trimesh.load_scene(file, file_type=suffix[1:], process=False).geometry.values())
    meshes = [part for part in parts if len(getattr(part, "faces", ()))]
    if meshes:
        mesh: Any = trimesh.util.concatenate(meshes) if len(meshes) > 1 else meshes[0]
        return np.asarray(mesh.vertices, dtype=np.float64), np.asarray(mesh.faces, dtype=np.int64)
    if suffix != ".ply":
        raise ValueError("it has no faces; save a cloud as PLY, XYZ or NPY")
    points = [np.asarray(part.vertices, dtype=np.float64) for part in parts if len(getattr(part, "vertices", ()))]
    return np.concatenate(points or [np.empty((0, 3))]), None
