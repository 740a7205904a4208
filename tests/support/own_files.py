"""Files of one's own in small: meshes and clouds of two kinds of shapes, images of two colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

TETRAHEDRON = "OFF\n4 4 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"


def box(x: float, y: float, z: float) -> str:
    """A box of these sides as an OFF mesh."""
    corners = [f"{a} {b} {c}" for a in (0, x) for b in (0, y) for c in (0, z)]
    faces = ["4 0 1 3 2", "4 4 6 7 5", "4 0 4 5 1", "4 2 3 7 6", "4 0 2 6 4", "4 1 5 7 3"]
    return "\n".join(["OFF", "8 6 0", *corners, *faces, ""])


def write_shapes(root: Path, layout: str = "{name}/{file}", count: int = 10) -> Path:
    """Flat and tall boxes, `count` of each class; `layout` says where, with {name}, {split}, {file}."""
    for index in range(count):
        split = "test" if index % 5 == 4 else "train"
        for name, z in (("flat", 0.1), ("tall", 4.0)):
            path = root / layout.format(name=name, split=split, file=f"{name}{index}.off")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(box(1 + index / 20, 1, z + index / 50))
    return root


def write_images(root: Path, layout: str = "{name}/{file}", count: int = 10) -> Path:
    """Red and blue images with noise, in the same way."""
    rng = np.random.default_rng(0)
    for index in range(count):
        split = "val" if index % 5 == 4 else "train"
        for channel, name in ((2, "blue"), (0, "red")):
            path = root / layout.format(name=name, split=split, file=f"{name}{index}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 100, (40, 48, 3), dtype=np.uint8)
            pixels[:, :, channel] += 120
            Image.fromarray(pixels).save(path)
    return root
