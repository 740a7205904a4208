"""Readers under fire: valid samples, damaged by seed, are given to a reader, which may read or refuse them.

    @pytest.mark.parametrize("cases", CASES)
    def test_no_off_file_harms(ram: Path, cases: int) -> None:
        fuzz(through_file(ram / "a.off", read_off), [CUBE, TETRAHEDRON], cases)

`CASES` are a few hundred in the default run, 100 000 in the slow one. A case is made of its number
and the seed alone, so that a message of a failure is enough to repeat it (`damaged`).
"""

from __future__ import annotations

import random
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import pytest

from zoo.errors import ZooError

resource = pytest.importorskip("resource")  # POSIX

CASES = [200, pytest.param(100_000, marks=pytest.mark.slow)]
MAX_SECONDS, MAX_BYTES = 1.0, 512 << 20  # of one case: processor time, memory above what the process had before
_HANGS = 60.0  # seconds after which a case is ended
_MAX_FAILURES = 5  # different ones, after which a run stops
_NUMBERS = (
    "0", "-1", "1", "2", "255", "65536", "2147483647", "4294967295", "9223372036854775807", "18446744073709551615",
    "99999999", "1000000000000", "1e999", "1e308", "nan", "-0", "0.5", "1" + "0" * 400,
)  # fmt: skip
_SIZES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 1 << 20, 1 << 28, (1 << 31) - 1, (1 << 32) - 1, 1 << 40, (1 << 63) - 1,
          (1 << 64) - 1)  # fmt: skip
_DIGITS = re.compile(rb"\d+")


@dataclass
class Fuzzed:
    """What became of the cases: how many were read and refused; the worst processor time, in seconds, and the worst
    memory, in bytes, of one; and what failed, one line for each kind with the number of its first case."""

    cases: int = 0
    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    worst_seconds: float = 0.0
    worst_bytes: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f"{self.cases} cases in {self.seconds:.0f} s: {self.read} read, {self.refused} refused, worst "
            f"{self.worst_seconds * 1000:.0f} ms and {self.worst_bytes / 1e6:.1f} MB"
        )


def fuzz(
    read: Callable[[bytes], object], samples: Sequence[bytes], cases: int, *, words: Sequence[bytes] = (),
    seed: int = 0, first: int = 0, max_seconds: float = MAX_SECONDS, max_bytes: int = MAX_BYTES,
) -> Fuzzed:  # fmt: skip
    """Give damaged samples to a reader; fail if it raises anything but ZooError, or takes too much time or memory.

    samples  valid ones: the reader must take each as it is, so that damage starts deep inside the format
    words    pieces that only this format has (keys, tags), put in by chance
    first    the number of the first case: that of a failure repeats it alone, with `cases` 1

    Also a failure: an allocation that the system refused, although a ZooError was made of it, because on a larger
    machine it would have succeeded. While the cases run, the process cannot grow by more than four times `max_bytes`.
    """
    for sample in samples:
        read(sample)
    result, started = Fuzzed(), time.perf_counter()
    with _limited(4 * max_bytes):
        for number in range(first, first + cases):
            data = damaged(samples, number, seed=seed, words=words)
            signal.setitimer(signal.ITIMER_REAL, _HANGS)
            failure = _case(read, data, result)
            if not failure and result.worst_seconds > max_seconds:
                failure = f"took {result.worst_seconds:.2f} s"
            if not failure and result.worst_bytes > max_bytes:
                failure = f"took {result.worst_bytes >> 20} MiB"
            if failure:
                result.failures.setdefault(failure, f"case {number}, {len(data)} bytes, {data[:80]!r}: {failure}")
                if len(result.failures) == _MAX_FAILURES or "took" in failure:
                    break
    result.seconds = time.perf_counter() - started
    print(f"\nfuzzed: {result}")
    assert not result.failures, "\n".join(result.failures.values())
    return result


def damaged(samples: Sequence[bytes], number: int, *, seed: int = 0, words: Sequence[bytes] = ()) -> bytes:
    """Case `number`: one of the samples after one to three changes."""
    chance = random.Random((seed << 32) + number)
    data = bytearray(chance.choice(samples))
    for _ in range(chance.choice((1, 1, 2, 3))):
        changes = [_flip, _flip, _overwrite, _overwrite, _number, _number, _cut, _drop, _repeat, _splice]
        change = chance.choice([*changes, _word, _word] if words else changes)
        change(data, chance, words if change is _word else samples)
    return bytes(data)


def through_file(path: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of bytes from a reader of files: each case lies under the same path, best on `ram`."""

    def reader(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return reader


@contextmanager
def measured_peak() -> Iterator[list[int]]:
    """A list that holds, after the block, by how many bytes the memory of this process grew at most within it."""
    grown: list[int] = []
    before = _start_of_peak()
    yield grown
    grown.append(max(0, _peak() - before))


def _case(read: Callable[[bytes], object], data: bytes, result: Fuzzed) -> str:
    """Run a case, add it to the result, and say what was wrong; empty if nothing was."""
    failure = ""
    result.cases += 1
    started = time.process_time()
    with measured_peak() as grown:
        try:
            read(data)
            result.read += 1
        except ZooError as error:
            result.refused += 1
            failure = _refused_by_the_system(error)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            failure = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {str(error)[:200]}"
        except _HungError:
            failure = f"took more than {_HANGS:g} s"
    result.worst_seconds = max(result.worst_seconds, time.process_time() - started)
    result.worst_bytes = max(result.worst_bytes, *grown)
    return failure


def _refused_by_the_system(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, MemoryError) or "t allocate memory" in str(error):
            return f"asked for more memory than there was: {str(error)[:200] or type(error).__name__}"
        error = error.__cause__ or error.__context__
    return ""


# -- changes ---------------------------------------------------------------------------------------------------


def _flip(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    for _ in range(chance.choice((1, 1, 2, 8)) if data else 0):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    """Put a size that nobody expects where a binary one may stand."""
    width = chance.choice((1, 2, 4, 8))
    if len(data) >= width:
        at = chance.randrange(len(data) - width + 1)
        value = chance.choice(_SIZES) % (1 << 8 * width)
        data[at : at + width] = value.to_bytes(width, chance.choice(("little", "little", "big")))


def _number(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    """Replace a number in decimal digits."""
    found = _DIGITS.search(data, chance.randrange(len(data) + 1)) or _DIGITS.search(data)
    if found:
        data[found.start() : found.end()] = chance.choice(_NUMBERS).encode()


def _cut(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _drop(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    del data[at : at + chance.choice((1, 2, 8, 64))]


def _repeat(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = data[at : at + chance.choice((1, 4, 32, 256))] * chance.choice((1, 2, 50))


def _splice(data: bytearray, chance: random.Random, samples: Sequence[bytes]) -> None:
    """Put a piece of a sample over another place, or between."""
    other = chance.choice(samples)
    start, at = chance.randrange(len(other) + 1), chance.randrange(len(data) + 1)
    piece = other[start : start + chance.choice((1, 4, 16, 64, 512))]
    data[at : at + chance.choice((0, len(piece)))] = piece


def _word(data: bytearray, chance: random.Random, words: Sequence[bytes]) -> None:
    word, at = chance.choice(words), chance.randrange(len(data) + 1)
    data[at : at + chance.choice((0, len(word)))] = word


# -- limits and measures ---------------------------------------------------------------------------------------


class _HungError(BaseException):
    """Not an Exception, because a reader may catch those."""


@contextmanager
def _limited(grow: int) -> Iterator[None]:
    """The process cannot grow by more than so many bytes, and nothing runs for ever."""

    def hung(number: int, frame: FrameType | None) -> None:
        raise _HungError

    limits = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, hung)
    if sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + grow, limits[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _start_of_peak() -> int:
    """Start a new measurement of the largest memory, and return what the process has now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak becomes what there is now
    except OSError:
        return _peak()
    return _peak()


def _peak() -> int:
    """The largest memory of this process in bytes; elsewhere than on Linux since it began."""
    if sys.platform.startswith("linux"):
        return _status("VmHWM")  # not ru_maxrss, which a process inherits from the one that started it
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(key: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(key))
