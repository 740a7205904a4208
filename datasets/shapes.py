"""Shapes: point clouds of parametric solids, generated from a seed; the data set that needs no file.

It is made difficult so that pruning can lose accuracy: 20 to 45 % of the surface are missing, as in a view from one
side; points are noisy; and proportions of the classes overlap (a frustum may be nearly a cylinder or a cone, an
ellipsoid nearly a sphere). The vertical axis is z, as in Princeton's ModelNet meshes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.datasets import point_transforms
from zoo.datasets.base import LabelledDataset
from zoo.datasets.registry import DatasetInfo, check_split, register_dataset
from zoo.datasets.solids import SOLIDS, solid
from zoo.errors import ZooError
from zoo.utils import generator_for

MISSING = (0.20, 0.45)  # fraction of the surface that is missing
SIGMA = (0.02, 0.04)  # standard deviation of the noise, in units of the radius of the normalised cloud


def make_cloud(name: str, points: int, generator: torch.Generator) -> Tensor:
    """One cloud of the class `name`, centred and scaled to the unit sphere: float32 (3, points)."""
    corners = solid(name, generator)
    missing, sigma = (float(point_transforms.uniform(1, *span, generator)) for span in (MISSING, SIGMA))
    # More points are sampled than needed and the missing part is cut away, so that no point is repeated.
    surface = point_transforms.sample_surface(corners, math.ceil(points / (1 - missing)), generator)
    view = point_transforms.partial_view(surface, points, generator)
    view = point_transforms.normalise(point_transforms.rotate_randomly(view, generator))
    return point_transforms.normalise(point_transforms.jitter(view, generator, sigma=sigma, limit=4 * sigma))


@register_dataset(
    DatasetInfo(
        name="shapes",
        kind="points",
        num_classes=20,
        classes=(
            "arch", "box", "capsule", "cone", "cross", "cylinder", "dome", "ellipsoid", "frustum", "helix",
            "hexagonal_prism", "l_block", "pyramid", "sphere", "stairs", "t_block", "tetrahedron", "torus",
            "triangular_prism", "tube",
        ),
        sample_shape=(3, 512),
        description="20 classes of solids, made from a seed: noise, partial views, random proportions; no download",
        terms="generated (no third-party data)",
        weights_terms="Apache-2.0",
        options=("points",),
        train_samples=4096,
        difficulty=1,
    )
)
class Shapes(LabelledDataset):
    """Twenty classes of solids as clouds (3, points); sample i is a function of (seed, split, i, points).

    A sample is generated on first access and kept in memory. Every 20 consecutive samples have each class once, so that
    the first n samples are a balanced subset. `augment` scales, translates and shuffles as the DGCNN authors do; its
    random numbers depend on `seed` too.
    """

    def __init__(
        self,
        split: str = "train",
        points: int = 512,
        *,
        train_size: int = 4096,
        test_size: int = 1024,
        seed: int = 0,
        augment: bool = False,
    ) -> None:
        if points < 1:
            raise ZooError(f"a cloud needs 1 point or more, not {points}; give for example `points=512`")
        super().__init__(sorted(SOLIDS), (3, points), augment=augment, seed=seed)
        self.split = check_split(split)
        self.points = points
        size = train_size if split == "train" else test_size
        if size < 1:
            raise ZooError(f"the {split} split needs 1 sample or more, not {size}")
        self._clouds: list[Tensor | None] = [None] * size

    def __len__(self) -> int:
        return len(self._clouds)

    def label(self, index: int) -> int:
        return index % self.num_classes

    def load_sample(self, index: int) -> Tensor:
        cloud = self._clouds[index]
        if cloud is None:
            generator = generator_for("shapes", self.seed, self.split, index, self.points)
            cloud = self._clouds[index] = make_cloud(self.classes[self.label(index)], self.points, generator)
        return cloud.clone()

    def augmented(self, index: int, generator: torch.Generator) -> Tensor:
        cloud = point_transforms.scale_and_translate(self.load_sample(index), generator)
        return point_transforms.shuffle(cloud, generator)
