"""Arrays of numbers in HDF5 files of other people, read from the file itself and from no other.

What a file claims is checked before memory follows it. Chunks are taken raw and decoded here: HDF5's own filters crash
on damaged ones, and unpack a thousandfold what an attacker packed. Links, external storage and virtual data sets lead
to other files, so they are refused.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from zoo.datasets.files.child import in_child
from zoo.datasets.files.listing import array_limit, check_regular
from zoo.errors import ZooError, first_line

_MOST_CHUNKS = 2**13  # HDF5 goes through the whole index for each: quadratic time, seconds for these

_READ_WORDS = """
import h5py
with h5py.File(sys.argv[1], "r") as file:
    words = file.attrs[sys.argv[2]]
print(json.dumps([word if isinstance(word, str) else word.decode() for word in words]))
"""


@contextmanager
def open_hdf5(path: Path, failure: str) -> Iterator[Hdf5File]:
    """An HDF5 file to read from. Whatever goes wrong in the block is a ZooError that begins with `failure`."""
    check_regular(path)
    try:
        with h5py.File(path, "r") as file:
            yield Hdf5File(file, array_limit(path))
    except Exception as error:  # h5py raises what it happens to meet: OSError, KeyError, RuntimeError, OverflowError
        raise ZooError(f"{failure}: {first_line(error)}") from error


@dataclass(frozen=True)
class Hdf5File:
    """What `open_hdf5` gives: the open file, and how many bytes an array of it may have."""

    file: h5py.File
    limit: int

    def array(self, name: str) -> np.ndarray:
        """The data set `name` as it is stored: integers or floats of up to 64 bits, in any shape.

        Raises ValueError for one of another type, one that leads out of the file, was not written to its end, is packed
        otherwise than by gzip, or has many more bytes than the file; and what h5py raises for one that is damaged.
        """
        link = self.file.get(name, getlink=True)
        if link is not None and not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name} is a link to another place; copy the data itself into the file")
        data = self.file[name]
        if not isinstance(data, h5py.Dataset):
            raise ValueError(f"{name} is a group; a data set was expected")
        plan = data.id.get_create_plist()
        if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
            raise ValueError(f"{name} lies in other files; copy the data itself into the file")
        kind, shape = data.dtype, data.shape
        plain = kind.kind in "iuf" and kind.itemsize <= 8 and h5py.h5t.py_create(kind) == data.id.get_type()
        if shape is None or not plain:
            raise ValueError(f"{name} holds {kind} {shape}; integers or floats were expected")
        size = math.prod(shape) * kind.itemsize
        if max(size, math.prod(data.chunks or ()) * kind.itemsize) > self.limit:
            raise ValueError(f"{name} {shape} has {size} bytes, many more than the file")
        if not size:
            return np.empty(shape, kind)
        if data.chunks:
            return _from_chunks(data, plan)
        if plan.get_layout() == h5py.h5d.CONTIGUOUS and data.id.get_offset() is None:
            raise ValueError(f"{name} was declared, and never written")
        return np.asarray(data[()])

    def strings(self, name: str) -> list[str]:
        """The list of texts that is the attribute `name`. Raises as `array`.

        Texts lie in a heap, in which HDF5 goes round for ever if a length in it is 0: so they are read by a child.
        """
        attribute = h5py.h5a.open(self.file.id, name.encode())
        shape, kind = attribute.shape, attribute.dtype
        largest = shape[0] * self.file.id.get_filesize() if len(shape) == 1 else math.inf  # all may be one long text
        if h5py.check_string_dtype(kind) is None or largest > self.limit:
            raise ValueError(f"{name} is {kind} {shape}; a list of texts was expected")
        return [str(word) for word in in_child(_READ_WORDS, self.file.filename, name)]


def class_numbers(labels: np.ndarray, classes: int, source: str, listed: str = "lists") -> np.ndarray:
    """Labels (n,) or (n, 1) as int64 (n,), from 0 to `classes` - 1.

    Raises ZooError, which begins with `source`, for others; `listed` says where the classes are from.
    """
    if labels.ndim not in (1, 2) or labels.shape[1:] not in ((), (1,)):
        raise ZooError(f"{source} has label {labels.shape}; expected (n, 1)")
    labels = labels.reshape(-1)
    with np.errstate(invalid="ignore"):
        fits = (labels >= 0) & (labels < classes) & (labels % 1 == 0)  # NaN does not
    if not fits.all():
        raise ZooError(f"{source} has label {labels[~fits][0]}, but {listed} {classes} classes")
    return labels.astype(np.int64)


def _from_chunks(data: h5py.Dataset, plan: Any) -> np.ndarray:
    filters = [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]
    if others := set(filters) - _UNPACK.keys():
        raise ValueError(f"{data.name} is packed by filter {min(others)}; pack it by gzip: h5repack -f GZIP=4 IN OUT")
    size = math.prod(data.chunks) * data.dtype.itemsize
    count = math.prod(-(-end // step) for end, step in zip(data.shape, data.chunks, strict=True))
    if count > _MOST_CHUNKS:
        raise ValueError(f"{data.name} lies in {count} parts; write it in one: h5repack -f NONE -l CONTI IN OUT")
    array = np.empty(data.shape, data.dtype)
    for corner in itertools.product(*(range(0, end, step) for end, step in zip(data.shape, data.chunks, strict=True))):
        info = data.id.get_chunk_info_by_coord(corner)
        if info.byte_offset is None or not 0 < info.size <= data.file.id.get_filesize():
            raise ValueError(f"{data.name} was not written to its end: the part at {corner} is missing")
        # Without a place for it h5py takes as much memory as another part of the file claims.
        mask, stored = data.id.read_direct_chunk(corner, out=np.empty(info.size, np.uint8))
        packed = bytes(stored)
        for index in reversed(range(len(filters))):
            if not mask >> index & 1:  # else the filter was left out for this chunk
                packed = _UNPACK[filters[index]](packed, size, data.dtype.itemsize)
        if len(packed) != size:
            raise ValueError(f"the part of {data.name} at {corner} has {len(packed)} bytes, and {size} were expected")
        place = tuple(slice(start, start + step) for start, step in zip(corner, data.chunks, strict=True))
        into = array[place]
        into[...] = np.frombuffer(packed, data.dtype).reshape(data.chunks)[tuple(map(slice, into.shape))]
    return array


def _inflate(packed: bytes, size: int, _: int) -> bytes:
    return zlib.decompressobj().decompress(packed, size + 8)  # a checksum may follow


def _unshuffle(shuffled: bytes, _: int, width: int) -> bytes:
    return bytes(np.frombuffer(shuffled, np.uint8).reshape(width, -1).T.tobytes())


def _verified(summed: bytes, _: int, __: int) -> bytes:
    """Without the Fletcher-32 checksum of 16-bit words at its end, which is compared."""
    content, stored = summed[:-4], int.from_bytes(summed[-4:], "little")
    words = np.frombuffer(content + bytes(len(content) % 2), ">u2").astype(np.uint64)
    sums = int(words.sum()), int((words * np.arange(len(words), 0, -1, dtype=np.uint64) % 65535).sum())
    if any(ours % 65535 != theirs % 65535 for ours, theirs in zip(sums, (stored & 0xFFFF, stored >> 16), strict=True)):
        raise ValueError("a checksum does not fit: the file is damaged")
    return content


_UNPACK = {1: _inflate, 2: _unshuffle, 3: _verified}  # by the numbers of HDF5's filters
