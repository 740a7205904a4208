"""The harness of the fuzz tests sees each kind of fault, and does the same twice."""

import mmap
import time
from collections.abc import Callable

import pytest
from fuzzing import damaged, fuzz

from zoo.errors import ZooError

SAMPLES = [b"OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", bytes(range(256))]


def refuse(data: bytes) -> None:
    if data not in SAMPLES:
        raise ZooError("no")


def test_cases_differ_and_are_the_same_again() -> None:
    cases = [damaged(SAMPLES, number) for number in range(300)]
    assert cases == [damaged(SAMPLES, number) for number in range(300)]
    assert len(set(cases)) > 250
    assert any(b"1e999" in damaged(SAMPLES, number, words=[b"word"]) for number in range(300))
    assert any(b"word" in damaged(SAMPLES, number, words=[b"word"]) for number in range(300))
    result = fuzz(refuse, SAMPLES, 300)
    assert (result.cases, result.read + result.refused) == (300, 300)
    assert result.refused > 250


def busy() -> None:
    start = time.process_time()
    while time.process_time() < start + 0.05:
        pass


def hidden() -> None:
    try:
        bytearray(1 << 50)
    except MemoryError as error:
        raise ZooError("it is damaged") from error


def large() -> None:
    """Use 30 MiB that come from the system, not from what this process has freed."""
    with mmap.mmap(-1, 30 << 20) as memory:
        for page in range(0, len(memory), mmap.PAGESIZE):
            memory[page] = 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda: {}["key"], "case 0, .*KeyError at test_fuzzing.py"),
        (busy, "took 0.0"),
        (large, "took (29|3[0-9]) MiB"),
        (hidden, "asked for more memory than there was"),
    ],
)
def test_faults_are_found(fault: Callable[[], object], reason: str) -> None:
    def read(data: bytes) -> None:
        if data not in SAMPLES:
            fault()

    with pytest.raises(AssertionError, match=reason):
        fuzz(read, SAMPLES, 10, max_seconds=0.04 if fault is busy else 1, max_bytes=20 << 20)
