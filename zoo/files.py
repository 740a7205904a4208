"""Bytes on their way to a file: a file gets its name only when all of its bytes are there and are the right ones.

`new_file` writes beside the final name and renames, so neither a full disk nor kill -9 leaves half a file under
it. `fetch` brings a file from a folder, a file:// or an http(s):// address and compares its SHA-256 first.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from zoo.errors import ZooError

_CHUNK = 1 << 20
_STALE = 600  # seconds without a write after which a half file's writer must be dead
_TIMEOUT = (10, 30)  # seconds to connect, seconds between two pieces


class FetchError(ZooError):
    """This place gave no good file; another one may."""


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
        _sweep(path)
        try:
            with open(temporary, "xb") as out:
                yield out
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}; nothing was written") from error


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def fetch(base: str, name: str, path: Path, *, size: int, sha256: str, progress: bool = True) -> None:
    """Bring file ``name`` from ``base`` to ``path``; it appears there only with this size and SHA-256.

    Raises:
        FetchError: there is no such file, the connection fails, or these are not the bytes that were asked for.
        ZooError: the file cannot be written.
    """
    from tqdm import tqdm

    digest, received = hashlib.sha256(), 0
    # disable=None: no bar where standard error is not a terminal
    bar = tqdm(total=size, desc=name, unit="B", unit_scale=True, leave=False, disable=None if progress else True)
    with bar, new_file(path) as out:
        for piece in _pieces(base, name):
            received += len(piece)
            if received > size:
                raise FetchError(f"{name} is longer than the {size} bytes that its card states")
            digest.update(piece)
            out.write(piece)
            bar.update(len(piece))
        if received < size:
            raise FetchError(f"{name} ended after {received} of {size} bytes")
        if (found := digest.hexdigest()) != sha256:
            raise FetchError(f"{name} has the SHA-256 {found[:12]}..., its card states {sha256[:12]}...")


def fetch_text(base: str, name: str, *, limit: int = 1 << 24) -> bytes:
    """A small file's bytes from ``base``; at most ``limit`` of them.

    Raises:
        FetchError: there is no such file, the connection fails, or it is longer than that.
    """
    data = bytearray()
    for piece in _pieces(base, name):
        data += piece
        if len(data) > limit:
            raise FetchError(f"{name} is longer than {limit} bytes")
    return bytes(data)


def _pieces(base: str, name: str) -> Iterator[bytes]:
    scheme = urlsplit(base).scheme
    if scheme in ("http", "https"):
        yield from _pieces_http(f"{base.rstrip('/')}/{quote(name)}")
        return
    folder = _folder_of(base) if scheme == "file" else Path(base).expanduser()
    try:
        with open(folder / name, "rb") as file:
            while piece := file.read(_CHUNK):
                yield piece
    except OSError as error:
        raise FetchError(f"{folder / name}: {error.strerror or error}") from error


def _folder_of(url: str) -> Path:
    from urllib.request import url2pathname  # slow to import, seldom needed

    return Path(url2pathname(urlsplit(url).path))


def _pieces_http(url: str) -> Iterator[bytes]:
    import requests

    try:
        # identity: a size that the server counts after compressing could not be compared with the card's
        with requests.get(url, stream=True, timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"}) as answer:
            if answer.status_code != 200:
                raise FetchError(f"{url} answered {answer.status_code} {answer.reason}")
            yield from answer.iter_content(_CHUNK)
    except requests.RequestException as error:
        raise FetchError(f"{url}: {_plainly(error)}") from error


def _plainly(error: Exception) -> str:
    """The innermost cause: what requests prints wraps it in the names of three libraries' classes."""
    known = {
        "ChunkedEncodingError": "the connection broke off",
        "ConnectTimeout": "the server does not answer",
        "ConnectionError": "the connection was refused, broke off or stalled",
        "ReadTimeout": "the server stopped answering",
        "TooManyRedirects": "the address redirects in a loop",
    }
    return known.get(type(error).__name__, str(error))


def _sweep(path: Path) -> None:
    """Remove half files of this name that a killed process left."""
    for part in sorted(path.parent.glob(f".{path.name}.*.part")):
        try:
            if time.time() - part.stat().st_mtime > _STALE:
                part.unlink()
        except FileNotFoundError:  # another process swept it, or finished it
            continue


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
