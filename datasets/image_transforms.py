"""Images as tensors, resized and augmented with the v2 transforms of torchvision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from zoo.datasets.loading import check_normalisation

MEAN = (0.485, 0.456, 0.406)  # of the training images of ImageNet, as torchvision's weights expect
STD = (0.229, 0.224, 0.225)

def to_tensor(mean: Sequence[float], std: Sequence[float]) -> v2.Transform:
    """The transform from an image to float32 (3, H, W), normalised as (x / 255 - mean) / std."""
    check_normalisation(mean, std)
    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])


def apply(transform: v2.Transform, image: Image.Image, generator: torch.Generator) -> Tensor:
    """`transform(image)` as a tensor, with random numbers that depend on `generator` alone.

    The v2 transforms use the global generator, which is seeded for the call and then restored.
    """
    seed = int(torch.randint(2**31, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        augmented: Tensor = transform(image)
    return augmented.as_subclass(Tensor)
