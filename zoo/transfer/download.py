"""Downloads that arrive whole: verified before they get their name, and resumed after an interruption.

What has come of a file lies beside its place as ``.<name>.from-<mirror>.part``, with a note of what it is the beginning
of. Only one process may fetch to a place at a time; `zoo.utils.locks` sees to that.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from zoo.errors import ZooError
from zoo.transfer.sources import BrokenOffError, FetchError, source_of
from zoo.utils import new_file, sha256_of, sync_folder

ATTEMPTS = 5  # at one place, as long as each brings `SLOW` bytes
SLOW, PATIENCE = 1 << 14, 60.0  # a place that gives fewer bytes than that in so many seconds has stalled
DAMAGED = "damaged"  # the folder where wrong files are set aside, beside the place of the right one


def fetch(base: str, name: str, path: Path, *, size: int, sha256: str, progress: bool = True) -> None:
    """Bring file ``name`` from the place ``base`` to ``path``; it appears there only with this size and SHA-256.

    A connection that breaks off is taken up where it was, here and by the next call after a kill. A file with other
    bytes is set aside in the folder `DAMAGED` beside, and named in the message.

    Raises:
        FetchError: there is no such file, the connection fails, or these are not the bytes that were asked for.
        ZooError: the file cannot be written; then nothing is left of it.
    """
    part = _Part(path, f"{base} {name} {sha256}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(ATTEMPTS):
            before, resumed = part.size, part.begun()[0] > 0
            try:
                _receive(base, name, part, size, progress=progress)
            except BrokenOffError:
                if part.size - before < SLOW:
                    raise
                continue
            except FetchError:
                if not resumed:
                    raise
                part.drop()  # asked for the rest, the place gave no good answer: once more, for all of it
                continue
            found = sha256_of(part.path)
            if found == sha256:
                part.finish()
                return
            if resumed:  # the beginning may be to blame
                part.drop()
                continue
            aside = set_aside(part.path, path.parent, name, found)
            part.drop()
            raise FetchError(
                f"{name} has the SHA-256 {found[:12]}..., its card states {sha256[:12]}...; what came was set aside as "
                f"{aside}"
            )
        raise FetchError(f"{name} broke off {ATTEMPTS} times; its {part.size} bytes are kept for the next try")
    except OSError as error:
        part.drop()
        raise ZooError(f"cannot write {path}: {error.strerror or error}; nothing was written") from error


def fetch_text(base: str, name: str, *, limit: int = 1 << 24) -> bytes:
    """A small file's bytes from the place ``base``; at most ``limit`` of them.

    Raises:
        FetchError: there is no such file, the connection fails, or it is longer than that.
    """
    data = bytearray()
    with source_of(base).open(name) as answer:
        for piece in answer.pieces:
            data += piece
            if len(data) > limit:
                raise FetchError(f"{name} is longer than {limit} bytes")
    if answer.total is not None and len(data) != answer.total:
        raise FetchError(f"{name} ended after {len(data)} of {answer.total} bytes")
    return bytes(data)


def set_aside(path: Path, folder: Path, name: str, sha256: str) -> Path:
    """Move a wrong file out of the way, into the folder `DAMAGED` of ``folder``; returns its new place.

    The same wrong file, met again, takes the same place.
    """
    aside = folder / DAMAGED / f"{name}.{sha256[:12]}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, aside)
    return aside


class _Part:
    """What has come of a file from one place; ``source`` says from where and what is expected."""

    def __init__(self, target: Path, source: str) -> None:
        self.target = target
        self._stem = f".{target.name}.from-"
        name = f"{self._stem}{hashlib.sha256(source.encode()).hexdigest()[:8]}.part"
        self.path, self._note = target.with_name(name), target.with_name(f"{name}.json")
        self.source = source

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def begun(self) -> tuple[int, str | None]:
        """How much is here that can be gone on with, and the validator of the file it is of."""
        try:
            note = json.loads(self._note.read_bytes())
            return (self.size, str(note["validator"])) if note["source"] == self.source else (0, None)
        except (OSError, ValueError, KeyError, TypeError):
            return 0, None

    def note(self, validator: str | None) -> None:
        """Write down what is being fetched; without a validator it cannot be gone on with."""
        if validator is None:
            self._note.unlink(missing_ok=True)
            return
        with new_file(self._note) as out:
            out.write(json.dumps({"source": self.source, "validator": validator}).encode())

    def finish(self) -> None:
        os.replace(self.path, self.target)
        sync_folder(self.target.parent)
        for other in self.target.parent.glob(f"{glob.escape(self._stem)}*"):  # of other places: not needed any more
            other.unlink(missing_ok=True)

    def drop(self) -> None:
        for path in (self.path, self._note):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _receive(base: str, name: str, part: _Part, size: int, *, progress: bool) -> None:
    """Write the file, or the rest of it, to the part and onto the disk."""
    from tqdm import tqdm

    begun, validator = part.begun()
    start = begun if begun < size else 0
    with source_of(base).open(name, start=start, validator=validator if start else None) as answer:
        if answer.total is not None and answer.total != size:
            what = "a web page instead of the file" if answer.html else f"{answer.total} bytes"
            raise FetchError(f"{name}: it has {what}, the card states {size} bytes")
        if answer.start == 0:
            part.note(answer.validator)
        received = answer.start
        # disable=None: no bar where standard error is not a terminal
        quiet = None if progress and sys.stderr is not None else True
        bar = tqdm(total=size, initial=received, desc=name, unit="B", unit_scale=True, leave=False, disable=quiet)
        watch = _Watch(received)
        with bar, open(part.path, "r+b" if received else "wb") as out:
            out.seek(received)
            out.truncate()
            for piece in answer.pieces:
                received += len(piece)
                if received > size:
                    break
                out.write(piece)
                bar.update(len(piece))
                if watch.stalled(received):
                    break
            out.flush()
            os.fsync(out.fileno())
    if received > size:
        part.drop()
        raise FetchError(f"{name} is longer than the {size} bytes that its card states")
    if received < size and answer.html:
        raise FetchError(f"{name}: it has a web page instead of the file, the card states {size} bytes")
    if received < size:
        stalled = f"stalled: less than {SLOW} bytes came in {PATIENCE:g} s" if watch.slow else "ended"
        raise BrokenOffError(f"{name} {stalled} after {received} of {size} bytes")


class _Watch:
    """Whether a download has stalled although a little comes now and then."""

    def __init__(self, received: int) -> None:
        self._since, self._before, self.slow = time.monotonic(), received, False

    def stalled(self, received: int) -> bool:
        if received - self._before >= SLOW:
            self._since, self._before = time.monotonic(), received
        self.slow = time.monotonic() - self._since > PATIENCE
        return self.slow
