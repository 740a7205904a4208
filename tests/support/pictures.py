"""A small folder of images that can be told apart."""

from pathlib import Path

import torch
from PIL import Image


def pictures(root: Path) -> Path:
    """Write 3 x 7 training images and 3 x 5 test images, 32 x 32, noise with a colour for each class; the folder."""
    generator = torch.Generator().manual_seed(0)
    for split, size in (("train", 7), ("val", 5)):
        for label in range(3):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(size):
                pixels = torch.randint(0, 156, (32, 32, 3), generator=generator)
                pixels[..., label] += 60
                Image.fromarray(pixels.byte().numpy()).save(folder / f"{index}.png")
    return root
