"""Images as tensors: read with PIL, resized and varied with torchvision's v2 transforms."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from zoo.errors import ZooError

MEAN = (0.485, 0.456, 0.406)  # of ImageNet's training images, as torchvision's weights expect
STD = (0.229, 0.224, 0.225)

# PIL has no error of its own: each format raises what its parser happens to meet.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError)


def open_image(source: Path | IO[bytes], name: str) -> Image.Image:
    """A decoded RGB image; ZooError naming it if it cannot be decoded to its end."""
    try:
        with Image.open(source) as image:
            decoded: Image.Image = image.convert("RGB")
            return decoded
    except _UNREADABLE as error:
        raise ZooError(f"{name} is no readable image: {error}; remove or replace it") from error


def to_tensor(mean: Sequence[float], std: Sequence[float]) -> v2.Transform:
    """From an image to float32 (3, H, W), (x / 255 - mean) / std."""
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3:
            raise ZooError(f"{name} takes three numbers (red, green, blue), not {list(values)}")
    if min(std) <= 0:
        raise ZooError(f"std takes three numbers above 0, not {list(std)}")
    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])


def apply(transform: v2.Transform, image: Image.Image, generator: torch.Generator) -> Tensor:
    """A random transform whose draws come from `generator`: v2 itself knows the global one only."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        varied: Tensor = transform(image)
    return varied.as_subclass(Tensor)
