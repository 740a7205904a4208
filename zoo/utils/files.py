"""Files that are there whole or not at all.

`new_file` writes beside the final name and renames, so neither a full disk nor kill -9 leaves half a file under it.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from zoo.errors import ZooError

_CHUNK = 1 << 20
_HALF = re.compile(r"\.(.+)\.[0-9a-f]{12}\.part")  # as `new_file` names them
_STALE = 600  # seconds without a write after which a half file's writer must be dead


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under ``path`` when the block ends without an exception.

    The bytes are on the disk before the name is. Any failure, an interrupt included, removes what was written and
    leaves a file that had the name before as it was.

    Raises:
        ZooError: the disk is full, the folder may not be written to, or whatever else the system says.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_files(path.parent, path.name)
        try:
            with open(temporary, "xb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}; nothing was written") from error


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def expand_path(path: str | os.PathLike[str]) -> Path:
    """The path with the home folder for a ``~``.

    Raises:
        ZooError: there is no such user, or nothing is written there.
    """
    if not os.fspath(path):  # of a variable that is not set, say; Python takes it for the folder one is in
        raise ZooError("the name of a file or folder is empty: write . for the folder that you are in")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ZooError(f"{os.fspath(path)!r}: {error}; write ./~... for a folder of that name") from error


def remove_stale_files(folder: Path, name: str | None = None, *, older: float = _STALE) -> None:
    """Remove half files of this name, or of any, that killed processes left: those unchanged for so many seconds."""
    for part in sorted(folder.glob(".*.part")):
        named = _HALF.fullmatch(part.name)
        if named is None or name not in (None, named[1]):
            continue
        with suppress(OSError):  # another process swept it, or finished it; or it cannot be removed
            if time.time() - part.stat().st_mtime > older:
                part.unlink()


def check_folder(folder: Path) -> None:
    """Make a folder, if it is not there, and write a file of no length into it and remove it.

    Raises:
        ZooError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ZooError(f"cannot write to the folder {folder}: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Put a folder's names onto the disk."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
