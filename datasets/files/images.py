"""Image files as RGB with 8 bits, whatever mode Pillow opens them in."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, TiffImagePlugin

from zoo.errors import ZooError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}  # those of torchvision

# PIL has no exception class of its own: the parser of each format raises what it happens to meet.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, Image.DecompressionBombError)

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF tags
_WHITE_IS_ZERO = 0


def open_image(source: Path | IO[bytes], name: str) -> Image.Image:
    """The decoded RGB image, with 8 bits a channel; messages begin with `name`.

    Grey values of more than 8 bits are scaled by their bit depth, so that the largest becomes 255; 32-bit integers
    count as 8 or 16 bits, the fewest that hold them. Floats are scaled from 0..1. Everything else is as torchvision's
    ImageFolder gives it: alpha is dropped, a palette looked up, of an animation the first frame is taken, and the
    orientation in the EXIF data is not applied.

    Raises ZooError if the image cannot be decoded completely, or holds numbers outside of these ranges.
    """
    try:
        with Image.open(source) as image:
            if image.mode == "F" or image.mode.startswith("I"):
                return _grey_as_rgb(image, name)
            image.info.pop("transparency", None)  # converting a palette with it warns, and gives the same
            decoded: Image.Image = image.convert("RGB")
            return decoded
    except _UNREADABLE as error:
        raise ZooError(f"{name} is no readable image: {error}; remove or replace it") from error


def _grey_as_rgb(image: Image.Image, name: str) -> Image.Image:
    """An image of mode F, I or I;16, which Pillow itself would clip at 255."""
    values = np.asarray(image)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if image.mode == "F":
        white = 1.0
    else:
        # Pillow scales grey PGM and JPEG 2000 to 16 bits; a TIFF says how many of them it uses, for instance 12.
        bits = int(tags.get(_BITS_PER_SAMPLE, (16 if image.format in ("PPM", "PNG") or image.mode != "I" else 32,))[0])
        white = 2.0 ** (bits if bits <= 16 else 8 if values.max() <= 255 else 16) - 1
    levels = np.rint(values * (255 / white))
    if not (levels.min() >= 0 and levels.max() <= 255):  # NaN too
        expected = "floats from 0 to 1" if image.mode == "F" else "integers from 0 to 65535"
        raise ZooError(
            f"{name} holds numbers from {values.min():g} to {values.max():g}, where a grey image has {expected}; "
            f"scale them, or save it with 8 bits"
        )
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow itself inverts no more than 8 bits
        levels = 255 - levels
    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
