"""Sources on this machine: a folder, and a bundle (a zip file that `zoo bundle` wrote)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from zoo.transfer.address import redact
from zoo.transfer.base import CHUNK, DEFAULT_LIMITS, FetchError, FileStream, Limits, NoSuchFileError
from zoo.utils import check_stored, open_zip


class FolderSource:
    """The files of a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def open(
        self, name: str, *, start: int = 0, validator: str | None = None, limits: Limits = DEFAULT_LIMITS
    ) -> Iterator[FileStream]:
        path = self.path / name
        shown = redact(str(path))  # an address without http:// is taken for a folder
        try:
            if not path.is_file():  # opening a named pipe would wait for ever
                raise NoSuchFileError(f"{shown}: there is no such file")
            file = open(path, "rb")  # noqa: SIM115 (closed below)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the name
            raise FetchError(f"{shown}: {getattr(error, 'strerror', None) or error}") from error

        def chunks() -> Iterator[bytes]:
            # An error is this source's fault only while it reads, not while the caller writes what was read.
            try:
                file.seek(start)
                while chunk := file.read(CHUNK):
                    yield chunk
            except OSError as error:
                raise FetchError(f"{shown}: {error.strerror or error}") from error

        with file:
            state = os.fstat(file.fileno())
            current = f"{state.st_size} {state.st_mtime_ns}"
            start = start if validator == current else 0
            yield FileStream(start, state.st_size, current, chunks())


class BundleSource:
    """The members of a zip file, read by name; nothing is unpacked to disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def open(
        self, name: str, *, start: int = 0, validator: str | None = None, limits: Limits = DEFAULT_LIMITS
    ) -> Iterator[FileStream]:
        with ExitStack() as opened:
            try:
                archive = opened.enter_context(open_zip(self.path))
                check_stored(archive, self.path.stat().st_size)
                member = opened.enter_context(archive.open(name))
            except KeyError as error:
                raise NoSuchFileError(f"{self.path} holds no {name}") from error
            except Exception as error:  # of damaged members: zipfile lets any error through
                raise FetchError(f"{self.path} is no readable bundle: {_reason(error)}") from error

            def chunks() -> Iterator[bytes]:
                try:
                    while chunk := member.read(CHUNK):
                        yield chunk
                except Exception as error:
                    raise FetchError(f"{name} in {self.path} is damaged: {_reason(error)}") from error

            yield FileStream(0, archive.getinfo(name).file_size, None, chunks())


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
