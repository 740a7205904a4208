"""Labelled image files as samples: decoded, resized, cut and normalised as networks on ImageNet expect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from zoo.datasets.base import LabelledDataset
from zoo.datasets.files import open_image
from zoo.datasets.image_transforms import MEAN, STD, apply, to_tensor
from zoo.errors import ZooError

Resize = int | Literal["auto"] | None


class ImageFiles(LabelledDataset):
    """Images float32 (3, size, size) from files, normalised as (x / 255 - mean) / std.

    samples  the path and the label of every image
    resize   to which length the shorter side is resized before the centre crop of size x size: a number; None for
             images as they are stored; "auto" for size * 256 / 224, unless an image has size x size already
    augment  a random resized crop and a random horizontal flip, with torchvision's default parameters

    Raises ZooError on access to a sample whose image cannot be read or is smaller than the crop.
    """

    def __init__(
        self,
        samples: Sequence[tuple[Path, int]],
        classes: Sequence[str],
        *,
        size: int = 224,
        resize: Resize = "auto",
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        if size < 1:
            raise ZooError(f"the size of an image is 1 or more, not {size}")
        if isinstance(resize, int) and resize < size:
            raise ZooError(f"resize {resize} leaves no cut of {size} x {size}; give resize={size} or more")
        super().__init__(classes, (3, size, size), augment=augment, seed=seed)
        self.samples = list(samples)
        self.size, self.resize = size, resize
        self._to_tensor = to_tensor(mean, std)
        self._augment = v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()])

    def __len__(self) -> int:
        return len(self.samples)

    def label(self, index: int) -> int:
        return self.samples[index][1]

    def load_sample(self, index: int) -> Tensor:
        path = self.samples[index][0]
        image = self._resized(open_image(path, str(path)))
        if min(image.size) < self.size:
            raise ZooError(
                f"{path} is {image.size[0]} x {image.size[1]}, smaller than the {self.size} x {self.size} cut of it; "
                f"give a smaller size, or resize={self.size}"
            )
        pixels: Tensor = self._to_tensor(v2.functional.center_crop(image, [self.size, self.size]))
        return pixels.as_subclass(Tensor)

    def augmented(self, index: int, generator: torch.Generator) -> Tensor:
        path = self.samples[index][0]
        return apply(v2.Compose([self._augment, self._to_tensor]), open_image(path, str(path)), generator)

    def _resized(self, image: Image.Image) -> Image.Image:
        if self.resize is None or (self.resize == "auto" and image.size == (self.size, self.size)):
            return image
        shorter = round(self.size * 256 / 224) if self.resize == "auto" else self.resize
        resized: Image.Image = v2.functional.resize(image, [shorter], antialias=True)
        return resized
