"""Archives of data sets: downloaded from the owner or a mirror (`zoo.transfer`), and unpacked safely."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from zoo.datasets.registry import DatasetInfo
from zoo.errors import ZooError, first_line
from zoo.transfer import FetchError, download_file, redact
from zoo.utils import locked, progress_bar, say

MIRROR = "ZOO_DATA_MIRROR"  # a folder or an address that has the archives under the names of their owners
MIN_ATTEMPTS = 3  # an owner's server is the only source, so that a connection is tried again at once
MAX_RATIO = 64  # times the size of an archive, which its files can have together; meshes as text have 4 to 10 times
MAX_UNPACKED = 1 << 36  # bytes of all files of an archive


def mirrored(url: str, mirror: str | None = None) -> str:
    """`url`, or the file of that name under `mirror` (default: the environment's ZOO_DATA_MIRROR)."""
    base = mirror or os.environ.get(MIRROR)
    return f"{base.rstrip('/')}/{url.rsplit('/', 1)[-1]}" if base else url


def download(url: str, target: Path, *, sha256: str | None = None) -> str:
    """Download `url` to `target` and return its SHA-256 in lower-case hex.

    A connection that breaks off is opened again, `MIN_ATTEMPTS` times at least, and goes on where it was if the server
    supports that. A file with another SHA-256 than the expected one is not kept. Raises ZooError for both, and for a
    disk that is full; `target` then is as it was.
    """
    base, _, name = url.rpartition("/")
    try:
        with locked(target.parent, target.name):
            return download_file(
                base, name, target, sha256=sha256 and sha256.lower(), min_attempts=MIN_ATTEMPTS, keep_damaged=False
            )
    except FetchError as error:
        raise ZooError(
            f"cannot download {redact(url)}: {error}; set {MIRROR} to the address of a folder that has the file, "
            f"or give a local folder with `data_dir=DIR`"
        ) from error


def unzip(archive: Path, folder: Path) -> None:
    """Unpack a zip archive into `folder`, entirely or not at all.

    Raises ZooError before anything is written: a member would leave the folder (absolute path, drive, `..`), is no
    plain file or folder (a link) or is packed by another method than deflate, the members are together larger than
    `MAX_RATIO` times the archive or `MAX_UNPACKED`, or a name exists already. Raises it too where the archive is
    damaged.
    """
    scratch: Path | None = None
    try:
        with zipfile.ZipFile(archive) as source:
            members = [member for member in source.infolist() if not member.filename.startswith("__MACOSX/")]
            for member in members:
                _check_member(archive, member)
            # zipfile writes no more of a member than it says here, whatever its data would unpack to.
            total = sum(member.file_size for member in members)
            if total > (limit := min(MAX_RATIO * archive.stat().st_size, MAX_UNPACKED)):
                raise ZooError(
                    f"{archive} would take {total} bytes, and {limit} are allowed for its size; nothing was unpacked"
                )
            top_level_names = sorted({PurePosixPath(member.filename).parts[0] for member in members})
            for name in top_level_names:
                if os.path.lexists(folder / name):
                    raise ZooError(f"{folder / name} exists already; move it away, then {archive} can be unpacked")
            folder.mkdir(parents=True, exist_ok=True)
            # In a hidden folder first, so that an interrupted run leaves nothing that looks complete.
            scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".unpack-"))
            for member in progress_bar(members, f"unpacking {archive.name}", unit=" files", lines=False):
                source.extract(member, scratch)
        for name in top_level_names:
            os.rename(scratch / name, folder / name)
    except ZooError:
        raise
    except OSError as error:
        raise ZooError(f"cannot unpack {archive} into {folder}: {error.strerror or error}") from error
    except Exception as error:  # zipfile lets any error of its decoders through
        raise ZooError(f"{archive} is no readable zip archive: {first_line(error)}; nothing was unpacked") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def fetch(info: DatasetInfo, root: Path, kind: str | None, *, mirror: str | None, sha256: str | None) -> None:
    """Print the terms of a data set, download its archive, unpack it into `root` and remove the archive."""
    sources = [source for source in info.sources if kind in (None, source.layout)]
    if not sources:
        raise ZooError(
            f"{info.name} is not published in the layout {kind!r}; its owners' are "
            f"{', '.join(source.layout for source in info.sources)}"
        )
    source = sources[0]
    url = mirrored(source.url, mirror)
    say(f"{info.name}: {info.terms}. Downloading {redact(url)}")
    expected = sha256 or source.sha256
    archive = root / source.url.rsplit("/", 1)[-1]
    actual_sha256 = download(url, archive, sha256=expected)
    if expected is None:
        say(f"{archive.name}: no checksum is on record to compare with; its SHA-256 is {actual_sha256}")
    try:
        unzip(archive, root)
    finally:
        archive.unlink(missing_ok=True)


def _check_member(archive: Path, member: zipfile.ZipInfo) -> None:
    # zipfile turns backslashes into slashes on Windows only; a well-formed archive has none in the names as written.
    path = PureWindowsPath(member.orig_filename)  # sees drives and backslashes beside what POSIX sees
    if not path.parts or path.drive or path.root or ".." in path.parts or "\\" in member.orig_filename:
        raise ZooError(f"{archive} holds {member.orig_filename!r}, which would leave its folder; nothing was unpacked")
    kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive was not made on a POSIX system
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ZooError(f"{archive} holds {member.orig_filename!r}, a link or a device; nothing was unpacked")
    if not member.filename or "\0" in member.orig_filename:
        raise ZooError(f"{archive} holds {member.orig_filename!r}, which no file can be called; nothing was unpacked")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ZooError(
            f"{archive} holds {member.orig_filename!r}, packed by method {member.compress_type} where deflate "
            "(8) was expected; nothing was unpacked"
        )
