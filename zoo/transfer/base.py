"""What a download reads from: a source opens a file by its name, at its beginning or in its middle.

A download that was interrupted goes on in the middle of the file, provided that the file is still the same one. A
*validator* (RFC 9110, section 13.1.5, If-Range) tells: it changes when the file does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from zoo.errors import ZooError

CHUNK = 1 << 18  # bytes that are read at once


class FetchError(ZooError):
    """One source gave no good file; another one may."""


class NoSuchFileError(FetchError):
    """The source can be reached and has no file of that name."""


class ConnectionLostError(FetchError):
    """The connection ended before the file did: the same source may give the rest."""


class TooSlowError(ConnectionLostError):
    """The file takes too long in all: another source may be quicker, this one would not be at the next attempt."""


@dataclass(frozen=True)
class Limits:
    """How slow the answer to a request over the network may be; a slower one is given up.

    window      seconds in which the head of the answer must be complete, and then seconds in which always ...
    least_bytes bytes of its body must come, or its end
    total       seconds for the whole answer, and one second more for each ...
    least_rate  bytes of it that have come
    """

    window: float = 60.0
    least_bytes: int = 1 << 14
    total: float = 300.0
    least_rate: float = 1 << 12


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class FileStream:
    """The bytes of a file from byte `start` on.

    total      bytes of the whole file; None where the source does not tell
    validator  changes when the file does; None where the source gives none
    is_html    the source calls the file a web page
    """

    start: int
    total: int | None
    validator: str | None
    chunks: Iterator[bytes]
    is_html: bool = False


class Source(Protocol):
    """A folder, a bundle or a server that gives files by name."""

    def open(
        self, name: str, *, start: int = 0, validator: str | None = None, limits: Limits = DEFAULT_LIMITS
    ) -> AbstractContextManager[FileStream]:
        """The file from byte `start` on if `validator` is still that of the file, or else from byte 0.

        Raises FetchError: there is no such file, or the source cannot be reached. Reading `chunks` raises it too.
        """
