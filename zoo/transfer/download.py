"""Downloads that are verified before they get their name, and that go on where they were interrupted.

The bytes of an unfinished download lie beside the final path as ``.<name>.from-<hash of the source>.part``, with a JSON
note of what they are the beginning of. Only one process at a time may download to a path: the caller holds a lock
(`zoo.utils.locked`).
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from zoo.errors import ZooError
from zoo.transfer.address import redact
from zoo.transfer.base import DEFAULT_LIMITS, ConnectionLostError, FetchError, FileStream, Limits, TooSlowError
from zoo.transfer.sources import source_of
from zoo.utils import new_file, progress_bar, read_json, sha256_of, sync_folder

MAX_ATTEMPTS = 5  # at one source, as long as each attempt brings `STALL_BYTES`
# A source that gives fewer bytes in so many seconds has stalled.
STALL_BYTES, STALL_SECONDS = DEFAULT_LIMITS.least_bytes, DEFAULT_LIMITS.window
DAMAGED = "damaged"  # the folder for damaged files, beside the path of the right one


def download_file(
    base: str, name: str, path: Path, *, size: int | None = None, sha256: str | None = None, min_attempts: int = 1,
    keep_damaged: bool = True, limits: Limits | None = None,
) -> str:  # fmt: skip
    """Download the file ``name`` of the source ``base`` to ``path``, and return its SHA-256.

    The file appears under ``path`` only with the expected size and SHA-256, where they are given. A connection that
    breaks off is opened again for the rest of the file, by this call and, after a kill, by the next one.

    min_attempts  attempts that are made even if they bring nothing
    keep_damaged  move a file with another SHA-256 into the folder `DAMAGED` beside ``path``, instead of deleting it
    limits        how slow a server may be

    Raises:
        FetchError: there is no such file, the connection fails, or the bytes are not the expected ones.
        ZooError: the file cannot be written; then nothing is left of it.
    """
    part = _PartialFile(path, f"{redact(base)} {name} {sha256}")
    limits = limits or Limits(STALL_SECONDS, STALL_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            size_before, resumed = part.size, part.resumable()[0] > 0
            try:
                _receive(base, name, part, size, limits)
            except TooSlowError:
                raise
            except ConnectionLostError:
                if part.size - size_before < limits.least_bytes and attempt >= min_attempts:
                    raise
                continue
            except FetchError:
                if not resumed:
                    raise
                part.delete()  # the source gave no good answer to a request for the rest: ask for the whole file
                continue
            actual = sha256_of(part.path)
            if sha256 in (None, actual):
                part.finish()
                return actual
            if resumed:  # the fault may lie in the bytes of an earlier attempt
                part.delete()
                continue
            kept = f"set aside as {quarantine(part.path, actual, name)}" if keep_damaged else "not kept"
            part.delete()
            raise FetchError(
                f"{name} has the SHA-256 {actual}, but {sha256} was expected: the file is damaged or another one; "
                f"what came was {kept}"
            )
        raise FetchError(f"{name} broke off {MAX_ATTEMPTS} times; its {part.size} bytes are kept for the next try")
    except FetchError:
        if part.resumable()[1] is None:
            part.delete()
        raise
    except OSError as error:
        part.delete()
        raise ZooError(f"cannot write {path}: {error.strerror or error}; nothing was written") from error


def download_bytes(base: str, name: str, *, limit: int = 1 << 24, limits: Limits | None = None) -> bytes:
    """The bytes of a small file of the source ``base``; at most ``limit`` of them, from a server within ``limits``.

    Raises:
        FetchError: there is no such file, the connection fails, or the file is longer than the limit.
    """
    data = bytearray()
    with source_of(base).open(name, limits=limits or Limits(STALL_SECONDS, STALL_BYTES)) as stream:
        for chunk in stream.chunks:
            data += chunk
            if len(data) > limit:
                raise FetchError(f"{name} is longer than {limit} bytes")
    if stream.total is not None and len(data) != stream.total:
        raise FetchError(f"{name} ended after {len(data)} of {stream.total} bytes")
    return bytes(data)


def quarantine(path: Path, sha256: str, name: str | None = None) -> Path:
    """Move a damaged file into the folder `DAMAGED` beside it, and return its new path.

    The new name holds the file's own name (or ``name``) and the beginning of its SHA-256, so that the same damaged file
    is not kept twice.
    """
    target = path.parent / DAMAGED / f"{name or path.name}.{sha256[:12]}"
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, target)
    return target


class _PartialFile:
    """The bytes that have come of a file, and the note of what they are the beginning of: ``origin``."""

    def __init__(self, target: Path, origin: str) -> None:
        self.target, self.origin = target, origin
        self._prefix = f".{target.name}.from-"
        name = f"{self._prefix}{hashlib.sha256(origin.encode()).hexdigest()[:8]}.part"
        self.path, self._note = target.with_name(name), target.with_name(f"{name}.json")

    @property
    def size(self) -> int:
        """The bytes that are there; 0 for what no download wrote."""
        try:
            state = self.path.lstat()
        except OSError:
            return 0
        return state.st_size if _is_plain(state) else 0

    def open(self, start: int) -> BinaryIO:
        """The file as it is, to be written from byte `start` on, or for byte 0 a new one, which is its owner's alone.

        Its name can be known beforehand: what somebody put there, a link or a pipe, is removed and not written through.
        """
        if not start:
            self.path.unlink(missing_ok=True)

        def no_link(name: str, flags: int) -> int:
            return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)

        return open(self.path, "r+b" if start else "xb", opener=no_link)

    def resumable(self) -> tuple[int, str | None]:
        """How many bytes a download can go on from, and the validator of the file that they belong to."""
        try:
            note = read_json(self._note)
            return (self.size, str(note["validator"])) if note["source"] == self.origin else (0, None)
        except (OSError, ValueError, KeyError, TypeError):
            return 0, None

    def write_note(self, validator: str | None) -> None:
        """Note the validator of the file that is downloaded; without one the download cannot be resumed."""
        if validator is None:
            self._note.unlink(missing_ok=True)
            return
        with new_file(self._note, mode=0o600) as out:
            out.write(json.dumps({"source": self.origin, "validator": validator}).encode())

    def finish(self) -> None:
        """Give the file its name and usual permissions, and delete what other sources have sent of it."""
        self.path.chmod(_usual_mode(self.target))
        os.replace(self.path, self.target)
        sync_folder(self.target.parent)
        for other in self.target.parent.glob(f"{glob.escape(self._prefix)}*"):
            other.unlink(missing_ok=True)

    def delete(self) -> None:
        for path in (self.path, self._note):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _is_plain(state: os.stat_result) -> bool:
    """Whether it is a file of one name, and no link, pipe or device."""
    return stat.S_ISREG(state.st_mode) and state.st_nlink == 1


def _usual_mode(path: Path) -> int:
    """The permissions that a new file of this name gets. The umask cannot be read without a change of it."""
    probe = path.with_name(f".{path.name}.{os.urandom(6).hex()}.part")  # as of `new_file`: a kill may leave it
    handle = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)
        probe.unlink()


def _receive(base: str, name: str, part: _PartialFile, size: int | None, limits: Limits) -> None:
    """Write the file, or the rest of it, to the partial file and onto the disk."""
    resume_at, validator = part.resumable()
    start = resume_at if size is None or resume_at < size else 0
    with source_of(base).open(name, start=start, validator=validator if start else None, limits=limits) as stream:
        if None not in (size, stream.total) and stream.total != size:
            actual = "a web page instead of the file" if stream.is_html else f"{stream.total} bytes"
            raise FetchError(f"{name}: it has {actual}, the card states {size} bytes")
        if stream.start == 0:
            part.write_note(stream.validator)
        size = stream.total if size is None else size
        received = _write_chunks(stream, part, name, size)
    if size in (None, received):
        return
    if size is not None and received > size:
        part.delete()
        raise FetchError(f"{name} is longer than the {size} bytes that its card states")
    if stream.is_html:
        raise FetchError(f"{name}: it has a web page instead of the file, the card states {size} bytes")
    raise ConnectionLostError(f"{name} ended after {received} of {size} bytes")


def _write_chunks(stream: FileStream, part: _PartialFile, name: str, size: int | None) -> int:
    """Append a stream to a partial file, under a progress bar; returns the file's length."""
    received = stream.start
    bar = progress_bar(title=name, total=size, initial=received, unit="B", unit_scale=True, lines=False)
    with bar, part.open(received) as out:
        out.seek(received)
        out.truncate()
        for chunk in stream.chunks:
            received += len(chunk)
            if size is not None and received > size:
                break
            out.write(chunk)
            bar.update(len(chunk))
        out.flush()
        os.fsync(out.fileno())
    return received
