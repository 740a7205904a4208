"""Files of meshes and clouds as samples of a data set.

A mesh is sampled uniformly by area; of a cloud the columns after x, y, z are ignored. Axes are those of the file.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from zoo.datasets import point_transforms
from zoo.datasets.base import LabelledDataset
from zoo.datasets.folder.readers import read_shape
from zoo.datasets.meshes import kept_clouds, sample_triangles
from zoo.errors import ZooError
from zoo.utils import derive_seed, generator_for, progress_bar

STORED = 2048  # points kept of a shape, of which training draws; as many as Stanford's clouds of ModelNet have
_KEPT = {".off", ".obj", ".stl"}  # always meshes: slow to read, and kept in the folder once they are sampled


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
