"""One process at a time: the others wait, and find done what they wanted to do."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import ZooError

_LOG = logging.getLogger("zoo")
PATIENCE = 10.0  # seconds to wait without a word


@contextmanager
def locked(folder: Path, name: str, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock ``name`` of a folder; the system gives it back when the process ends, however it does.

    Raises:
        ZooError: the folder cannot be written to.
        TimeoutError: another process holds it, and ``wait`` is off.
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
                lock.acquire(timeout=PATIENCE)
            except Timeout:
                _LOG.warning("waiting for another process that works on %s (it holds %s)", name, path)
                lock.acquire()
    except TimeoutError:
        raise
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
