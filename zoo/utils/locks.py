"""File locks: one process at a time works on a file or folder, the others wait."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zoo.errors import ZooError

_LOG = logging.getLogger("zoo")
LOCKS = ".locks"  # the folder of the lock files, beside what they lock; it is there only while a lock is held
SILENT_SECONDS = 10.0  # of waiting before a warning says for what
_POLL_SECONDS = 0.02
_MAX_OPENS = 1000  # while others make and remove the folder
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: Path, name: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of the file ``name`` in a folder; the system releases it when the process ends, even by a kill.

    It is held by one thread of one process: who holds it must not ask for it again.

    Raises:
        ZooError: the folder cannot be written to, or its file system knows no locks.
        TimeoutError: another process holds the lock, and ``wait`` is off.
    """
    path = folder / LOCKS / f"{name}.lock"
    start, warned = time.monotonic(), False
    try:
        while (handle := _take(path)) is None:
            if not wait:
                break
            if not warned and time.monotonic() - start > SILENT_SECONDS:
                _LOG.warning("waiting for another process that works on %s (it holds %s)", name, path)
                warned = True
            time.sleep(_POLL_SECONDS)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise ZooError(
                f"the file system of {folder} knows no locks, without which two processes could spoil each other's "
                "files: use a folder on another one (ZOO_HOME names the zoo's)"
            ) from error
        raise ZooError(f"cannot write {folder / name}: {error.strerror or error}") from error
    if handle is None:
        raise TimeoutError(f"another process works on {name}")
    try:
        yield
    finally:
        _give_back(handle, path)


def _take(path: Path) -> int | None:
    """A handle of the lock file, which holds the lock; None while another process does."""
    from filelock import lock_descriptor  # needed only where something is written

    handle = _open(path)
    held = False
    try:
        # The file that is locked counts only while it has the name: a holder removes it before the lock is released.
        held = lock_descriptor(handle, blocking=False) and os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        pass
    finally:
        if not held:
            os.close(handle)
    return handle if held else None


def _open(path: Path) -> int:
    """A handle of the lock file, made with its folder if they are not there."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)  # no link is followed: the name is known beforehand
    for _ in range(_MAX_OPENS):
        with suppress(FileNotFoundError):
            return os.open(path, flags, 0o666)
        with suppress(FileExistsError):  # others make the folder, and remove it when it is empty
            path.parent.mkdir(parents=True)
    return os.open(path, flags, 0o666)


def _give_back(handle: int, path: Path) -> None:
    from filelock import unlock_descriptor

    with suppress(OSError):  # of Windows, which removes no open file
        path.unlink()
    unlock_descriptor(handle)
    os.close(handle)
    with suppress(OSError):  # others hold locks
        path.parent.rmdir()
