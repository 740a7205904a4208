"""Files that are complete or absent: `new_file` writes beside the final name and then renames.

Neither a full disk nor kill -9 leaves half a file under the final name.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from zoo.errors import ZooError
from zoo.utils.json_text import parse_json

MAX_TEXT = 1 << 24  # bytes of a card, an index or a note
_CHUNK = 1 << 20  # bytes that are read at once
_UNFINISHED = re.compile(r"\.(.+)\.[0-9a-f]{12}\.part")  # the names that `new_file` writes under
_STALE_SECONDS = 600  # an unfinished file that was not written to for so long has no living writer


@contextmanager
def new_file(path: Path, *, mode: int = 0o666, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under ``path`` when the block ends without an exception.

    Any exception, KeyboardInterrupt included, removes what was written and leaves an earlier file of that name
    unchanged.

    mode     the permissions of the file, less those of the umask
    durable  the bytes are on the disk before the name is, so that a power cut leaves no half file either

    Raises:
        ZooError: the disk is full, the folder may not be written to, or another error of the system.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_files(path.parent, re.escape(path.name))
        try:
            with open(temporary, "xb", opener=lambda file, flags: os.open(file, flags, mode)) as out:
                yield out
                out.flush()
                if durable:
                    os.fsync(out.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}; nothing was written") from error


def remove_stale_files(folder: Path, names: str = ".+", *, older: float = _STALE_SECONDS) -> None:
    """Remove the unfinished files that killed processes left in a folder.

    names  a regular expression of the names that the files were to have
    older  seconds without a write after which an unfinished file counts as left
    """
    for part in sorted(folder.glob(".*.part")):
        match = _UNFINISHED.fullmatch(part.name)
        if match is None or not re.fullmatch(names, match[1]):
            continue
        with suppress(OSError):  # another process has removed or finished the file, or it cannot be removed
            if time.time() - part.lstat().st_mtime > older:
                part.unlink()


def read_file(path: Path, *, limit: int = MAX_TEXT) -> bytes:
    """The bytes of a file of at most ``limit`` of them. Neither waits for a named pipe nor reads a device to its end.

    Raises:
        ZooError: it is no ordinary file, or a longer one.
        OSError: it is not there, or cannot be read.
    """

    def at_once(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer

    with open(path, "rb", opener=at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ZooError("it is no ordinary file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ZooError(f"it is longer than {limit} bytes")
    return data


def read_json(path: Path, *, limit: int = MAX_TEXT) -> Any:
    """The JSON document in a file.

    Raises:
        ValueError: as `read_file`, or it is no JSON, or is nested too deeply.
        OSError: it is not there, or cannot be read.
    """
    try:
        return parse_json(read_file(path, limit=limit), strict=False)
    except ZooError as error:
        raise ValueError(str(error)) from error


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def expand_path(path: str | os.PathLike[str]) -> Path:
    """The path with the home folder for a ``~``.

    Raises:
        ZooError: there is no such user, or the path is empty.
    """
    if not os.fspath(path):  # such as an unset variable of the shell; Path("") is the current folder
        raise ZooError("the name of a file or folder is empty: write . for the folder that you are in")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ZooError(f"{os.fspath(path)!r}: {error}; write ./~... for a folder of that name") from error


def check_folder(folder: Path) -> None:
    """Create a folder if it is missing, and check that files can be written into it.

    Raises:
        ZooError: the folder cannot be created or written to.
    """
    from tempfile import TemporaryFile  # slow to import, and `zoo list` needs none

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ZooError(f"cannot write to the folder {folder}: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk (fsync)."""
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
