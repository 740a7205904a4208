"""Image files as RGB with 8 bits, whatever mode Pillow opens them in, within bounds of memory and time."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from zoo.datasets.files.listing import check_regular
from zoo.errors import ZooError, first_line

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}  # those of torchvision

# What is opened, whatever the suffix: ImageNet has a PNG named .JPEG. Of Pillow's other formats EPS runs Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "GIF", "JPEG2000")
MAX_PIXELS = 65_000_000  # a photo of 64 million; each takes 8 bytes while it is decoded and converted
_COST = {"WEBP": 2, "JPEG2000": 16, "I": 2, "F": 2}  # formats and modes of which a pixel takes a multiple of that
_SCANS_COST = 1.5  # a JPEG of several scans is kept as frequencies until all are read
_MAX_SCANNED = 10**9  # pixels times scans: a scan of 33 bytes goes over all pixels again

_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # of a JPEG; 00 and restarts are within a scan
_END, _SCAN = b"\xd9", b"\xda"

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF tags
_WHITE_IS_ZERO = 0
_AT_ONCE = 2**20  # numbers that are scaled at once, because floats take 8 bytes


def open_image(source: Path | IO[bytes], name: str) -> Image.Image:
    """The decoded RGB image, with 8 bits a channel; messages begin with `name`.

    Grey values of more than 8 bits are scaled by their bit depth, so that the largest becomes 255; 32-bit integers
    count as 8 or 16 bits, the fewest that hold them. Floats are scaled from 0..1. Everything else is as torchvision's
    ImageFolder gives it: alpha is dropped, a palette looked up, of an animation the first frame is taken, and the
    orientation in the EXIF data is not applied.

    Raises ZooError if the image is in none of FORMATS, has more than MAX_PIXELS (a part of that in costly formats),
    cannot be decoded completely, or holds numbers outside of these ranges.
    """
    if isinstance(source, Path):
        check_regular(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of EXIF data that cannot be read, and of sizes, which are bounded here
            with Image.open(source, formats=FORMATS) as image:
                _check_cost(image, name)
                if image.mode == "F" or image.mode.startswith("I"):
                    return _grey_as_rgb(image, name)
                image.info.pop("transparency", None)  # converting a palette with it warns, and gives the same
                decoded: Image.Image = image.convert("RGB")
                return decoded
    except ZooError:
        raise
    except Exception as error:  # Pillow has no class of its own: the parser of each format raises what it meets
        unknown = isinstance(error, UnidentifiedImageError)
        reason = f"it is none of {', '.join(FORMATS)}" if unknown else first_line(error)
        raise ZooError(f"{name} is no readable image: {reason}; remove or replace it") from error


def _check_cost(image: Image.Image, name: str) -> None:
    """Refuse an image that would take too much memory or time, by its header alone: nothing is decoded yet."""
    width, height = image.size
    scans = _scans(image) if image.format in ("JPEG", "MPO") else 1
    cost = max(_COST.get(str(image.format), 1), _COST.get(image.mode[0], 1), _SCANS_COST if scans > 1 else 1)
    allowed = int(MAX_PIXELS / cost)
    if width * height > allowed:
        raise ZooError(f"{name} has {width} x {height} pixels, and {allowed} can be read of this kind; make it smaller")
    if width * height * scans > _MAX_SCANNED:
        raise ZooError(f"{name} is a JPEG of {scans} scans, which take too long; save it anew")


def _scans(image: Any) -> int:
    """How many scans a JPEG has: one, or about ten if it is progressive."""
    image.fp.seek(0)
    data = image.fp.read()
    if data.count(b"\xff" + _SCAN) < 2:  # the usual image, without a second look
        return 1
    scans, at = 0, 2
    while (marker := _MARKER.search(data, at)) and marker[1] != _END:
        scans += marker[1] == _SCAN
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return scans


def _grey_as_rgb(image: Image.Image, name: str) -> Image.Image:
    """An image of mode F, I or I;16, which Pillow itself would clip at 255."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    if image.mode == "F":
        white = 1.0
    else:
        # Pillow scales grey PGM and JPEG 2000 to 16 bits; a TIFF says how many of them it uses, for instance 12.
        bits = int(tags.get(_BITS_PER_SAMPLE, (16 if image.format in ("PPM", "PNG") or image.mode != "I" else 32,))[0])
        white = 2.0 ** (bits if bits <= 16 else 8 if high <= 255 else 16) - 1
    if not (np.rint(low * (255 / white)) >= 0 and np.rint(high * (255 / white)) <= 255):  # NaN too
        expected = "floats from 0 to 1" if image.mode == "F" else "integers from 0 to 65535"
        raise ZooError(
            f"{name} holds numbers from {low:g} to {high:g}, where a grey image has {expected}; "
            f"scale them, or save it with 8 bits"
        )
    levels = np.empty(values.shape, np.uint8)
    for start in range(0, values.size, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        levels.flat[part] = np.rint(values.flat[part] * (255 / white))
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow itself inverts no more than 8 bits
        levels = 255 - levels
    return Image.fromarray(levels).convert("RGB")
