"""Archives that arrive whole or not at all: verified download from owner or mirror, and safe unpacking."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

import requests
from tqdm import tqdm

from zoo.errors import ZooError
from zoo.transfer import offline
from zoo.utils import new_file

MIRROR = "ZOO_DATA_MIRROR"
ATTEMPTS = 3
_BLOCK = 1 << 18
_TIMEOUT = (20, 60)  # seconds to connect, and between two pieces


class _BrokenOffError(Exception):
    """The connection failed on the way: worth another try."""


def mirrored(url: str, mirror: str | None = None) -> str:
    """`url`, or the file of that name under `mirror` (default: what ZOO_DATA_MIRROR holds)."""
    base = mirror or os.environ.get(MIRROR)
    return f"{base.rstrip('/')}/{url.rsplit('/', 1)[-1]}" if base else url


def download(url: str, target: Path, *, sha256: str | None = None) -> str:
    """Fetches `url` to `target`, whole and verified, and returns its SHA-256 in lower-case hex.

    A connection that breaks off is tried again, `ATTEMPTS` times in all; a wrong checksum is not, for the
    server then has another file. Progress goes to stderr if that is a terminal. Raises ZooError, and `target`
    then is as it was, also when the disk is full.
    """
    if offline():
        raise _failure(url, "ZOO_OFFLINE is set")
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            with new_file(target) as file:
                found = _receive(url, file)
                if sha256 is not None and found != sha256.lower():
                    raise ZooError(
                        f"{url} has the SHA-256 {found}, but {sha256.lower()} was expected: the file is damaged or "
                        f"another one, and was not kept"
                    )
            return found
        except _BrokenOffError as error:
            problem = str(error)
    raise _failure(url, problem)


def _failure(url: str, problem: str) -> ZooError:
    return ZooError(
        f"cannot download {url}: {problem}; set {MIRROR} to the address of a folder that has the file, "
        f"or give a local folder as data_dir"
    )


def _receive(url: str, file: BinaryIO) -> str:
    """Streams `url` into `file` and returns the SHA-256 of what came."""
    digest, received = hashlib.sha256(), 0
    try:
        # A server that compresses on the way would announce the length of something else.
        with requests.get(url, stream=True, timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"}) as answer:
            answer.raise_for_status()
            announced = answer.headers.get("Content-Length", "")
            length = int(announced) if announced.isdigit() else None
            # disable=None: no bar where stderr is no terminal
            with tqdm(total=length, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1], disable=None) as bar:
                for block in answer.iter_content(_BLOCK):
                    file.write(block)
                    digest.update(block)
                    received += len(block)
                    bar.update(len(block))
    except (requests.HTTPError, requests.exceptions.SSLError, ValueError) as error:
        raise _failure(url, str(error)) from error  # asking again would not help
    except requests.RequestException as error:
        raise _BrokenOffError(str(error)) from error
    if length is not None and received != length:
        raise _BrokenOffError(f"{received} of {length} bytes came")
    return digest.hexdigest()


def unzip(archive: Path, folder: Path) -> None:
    """Unpacks a zip archive into `folder`: looked through first, then all or nothing.

    A member that would leave the folder (absolute path, drive, `..`) or is no plain file or folder (a link) is
    a ZooError before anything is written; so is a name that exists already, and a damaged archive.
    """
    scratch: Path | None = None
    try:
        with zipfile.ZipFile(archive) as source:
            members = [member for member in source.infolist() if not member.filename.startswith("__MACOSX/")]
            for member in members:
                _check_member(archive, member)
            tops = sorted({PurePosixPath(member.filename).parts[0] for member in members})
            for top in tops:
                if os.path.lexists(folder / top):
                    raise ZooError(f"{folder / top} exists already; move it away, then {archive} can be unpacked")
            folder.mkdir(parents=True, exist_ok=True)
            # Beside the final place, so that an interrupted run leaves nothing that looks complete.
            scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".unpack-"))
            for member in tqdm(members, desc=f"unpacking {archive.name}", unit=" files", disable=None):
                source.extract(member, scratch)
        for top in tops:
            os.rename(scratch / top, folder / top)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ZooError(f"{archive} is no readable zip archive: {error}; nothing was unpacked") from error
    except OSError as error:
        raise ZooError(f"cannot unpack {archive} into {folder}: {error.strerror or error}") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _check_member(archive: Path, member: zipfile.ZipInfo) -> None:
    # zipfile turns backslashes into slashes on Windows only; as written they are never what an honest archive has.
    path = PureWindowsPath(member.orig_filename)  # sees drives and backslashes beside what POSIX sees
    if not path.parts or path.drive or path.root or ".." in path.parts or "\\" in member.orig_filename:
        raise ZooError(f"{archive} holds {member.orig_filename!r}, which would leave its folder; nothing was unpacked")
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was not made on a POSIX system
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ZooError(f"{archive} holds {member.orig_filename!r}, a link or a device; nothing was unpacked")
