"""Zip files whose members lie in them as they are: `torch.save` and `zoo bundle` write no others.

What such a file claims is bounded by what it has. A compressed member could be a thousand times as large as the file,
members could share the same bytes, and a file with two directories could show one to whoever checks it and another to
whoever reads it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from zoo.errors import ZooError

if TYPE_CHECKING:
    from zipfile import ZipFile

_MAX_DIRECTORY = 4 << 20  # bytes; a member has about 80
# The records at the end of a zip file (APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16), here with or without a comment.
_END, _END_SIZE = b"PK\x05\x06", 22
_LOCATOR, _LOCATOR_SIZE = b"PK\x06\x07", 20
_LARGE_END, _LARGE_END_SIZE = b"PK\x06\x06", 56
_MAX_COMMENT = 0xFFFF
_DAMAGED = "its end is missing or damaged, fetch it again"


@contextmanager
def open_zip(path: Path) -> Iterator[ZipFile]:
    """A zip file, open for reading, which has one directory, not too large to be read.

    Raises ZooError with the reason, without the path, for a damaged one. OSError: the file cannot be opened.
    """
    from zipfile import ZipFile  # `zoo list` needs none

    with open(path, "rb") as file:
        _check_end(file)
        try:
            archive = ZipFile(file)
        except Exception as error:  # of a damaged directory: zipfile lets any error through
            raise ZooError(_DAMAGED) from error
        with archive:
            yield archive


def check_stored(archive: ZipFile, size: int) -> None:
    """Raise ZooError, without the path, where a member does not lie in the file as it is, under a name of its own.

    size  bytes of the file, which all members together cannot exceed
    """
    members = archive.infolist()
    for member in members:
        if member.compress_type or member.flag_bits & 1 or member.compress_size != member.file_size:
            raise ZooError(f"its member {member.filename[:99]!r} is compressed or encrypted: store it as it is")
        if "\0" in member.orig_filename or not member.filename:
            raise ZooError(f"its member {member.orig_filename[:99]!r} has no name that a file can have")
    if sum(member.file_size for member in members) > size:
        raise ZooError("its members are larger than the file: they share their bytes")
    if len({member.filename.lower() for member in members}) < len(members):
        raise ZooError("two of its members have the same name")


def _check_end(file: BinaryIO) -> None:
    """Check that there is one directory, right before the records at the end, and not too large to be read."""
    size = file.seek(0, 2)
    begin = max(0, size - _MAX_COMMENT - _END_SIZE - _LOCATOR_SIZE - _LARGE_END_SIZE)
    file.seek(begin)
    tail = file.read()
    at = tail.rfind(_END, 0, max(0, len(tail) - _END_SIZE + len(_END)))  # the last one, as all programs have it
    if at < 0 or len(tail) - at - _END_SIZE != int.from_bytes(tail[at + 20 : at + 22], "little"):
        raise ZooError(_DAMAGED)
    length, start = small = struct.unpack("<II", tail[at + 12 : at + 20])
    locator = tail[max(0, at - _LOCATOR_SIZE) : at]
    if locator.startswith(_LOCATOR):
        at -= _LOCATOR_SIZE + _LARGE_END_SIZE
        if at < 0 or not tail.startswith(_LARGE_END, at) or struct.unpack("<Q", locator[8:16]) != (begin + at,):
            raise ZooError(_DAMAGED)
        length, start = struct.unpack("<QQ", tail[at + 40 : at + 56])
        if any(short not in (long, 0xFFFFFFFF) for short, long in zip(small, (length, start), strict=True)):
            raise ZooError(_DAMAGED)
    if start + length != begin + at:
        raise ZooError(_DAMAGED)
    if length > _MAX_DIRECTORY:
        raise ZooError(f"the directory of its members has {length} bytes, and at most {_MAX_DIRECTORY} are read")
