"""File locks: one process at a time works on a file or folder, the others wait."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import ZooError

_LOG = logging.getLogger("zoo")
SILENT_SECONDS = 10.0  # of waiting before a warning says for what


@contextmanager
def locked(folder: Path, name: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of the file ``name`` in a folder; the system releases it when the process ends, even by a kill.

    Raises:
        ZooError: the folder cannot be written to.
        TimeoutError: another process holds the lock, and ``wait`` is off.
    """
    from filelock import FileLock, Timeout  # needed only where something is written

    path = folder / ".locks" / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            if not wait:
                raise TimeoutError(f"another process works on {name}") from error
            try:
                lock.acquire(timeout=SILENT_SECONDS)
            except Timeout:
                _LOG.warning("waiting for another process that works on %s (it holds %s)", name, path)
                lock.acquire()
    except TimeoutError:
        raise
    except OSError as error:
        raise ZooError(f"cannot write {folder / name}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
