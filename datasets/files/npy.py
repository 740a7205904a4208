"""Arrays in numpy's format in files of other people: what a header announces is checked before memory follows it."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import IO

import numpy as np

_HEADERS = {1: (2, np.lib.format.read_array_header_1_0), 2: (4, np.lib.format.read_array_header_2_0)}  # by version
_LONGEST = 10_000  # bytes of a header, numpy's own limit, which it applies once it has read them all


def read_npy(
    file: IO[bytes], limit: int, fits: Callable[[tuple[int, ...], np.dtype], bool], expected: str
) -> np.ndarray:
    """The array in an .npy stream, read-only, if its shape and type are ones that `fits` takes, in words `expected`.

    Raises ValueError for another, for Python objects, and for one of more than `limit` bytes or that ends early; and
    what numpy raises for a header that is damaged.
    """
    start = file.read(8)
    width, read_header = _HEADERS.get(np.lib.format.read_magic(io.BytesIO(start))[0], (0, None))
    if read_header is None:
        raise ValueError(f"it is of version {start[6]} of numpy's format; 1 and 2 are read")
    length = file.read(width)
    if int.from_bytes(length, "little") > _LONGEST:
        raise ValueError(f"it announces a header of {int.from_bytes(length, 'little')} bytes; {_LONGEST} are read")
    shape, by_columns, kind = read_header(io.BytesIO(length + file.read(int.from_bytes(length, "little"))))
    if kind.hasobject:
        raise ValueError("it holds Python objects (numpy's allow_pickle), which could run a program; save numbers")
    if not fits(shape, kind):
        raise ValueError(f"it holds {kind} {shape}; {expected} expected")
    size = math.prod(shape) * kind.itemsize
    if size > limit:
        raise ValueError(f"it announces {kind} {shape}, many more bytes than the file has")
    content = file.read(size)
    if len(content) < size:
        raise ValueError(f"it announces {kind} {shape} and ends after {len(content)} bytes of {size}")
    return np.frombuffer(content, kind).reshape(shape, order="F" if by_columns else "C")
