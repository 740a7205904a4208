"""The saved state of a training run: one file, and the random states and signals that go with it.

Of several processes the first writes and reads the file; each has a random state of its own.
"""

from __future__ import annotations

import io
import pickle
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import distributed
from zoo.errors import ZooError
from zoo.utils import new_file


@dataclass
class State:
    """Where a run stands: `step` batches of epoch `epoch` are done, and the sums are over those, of all processes."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def save(path: Path, content: Mapping[str, Any], device: torch.device) -> None:
    """Write a run's content, which has its "identity", and the random states of all processes."""
    first, *others = distributed.all_gather_object(_random(device))

    def write() -> None:
        buffer = io.BytesIO()
        torch.save({**content, "random": first[0], "random_cuda": first[1], "others": others}, buffer)
        with new_file(path) as out:
            out.write(buffer.getvalue())

    distributed.run_on_rank0(write)


def load(path: Path, identity: Mapping[str, Any], device: torch.device) -> dict[str, Any] | None:
    """What was saved by a run of this identity, on the device, or None; the random state is set to what it was.

    If it was saved by another number of processes, random states stay as they are.

    Raises ZooError if the file cannot be read or is of another run.
    """
    data = distributed.run_on_rank0(lambda: _read(path))
    if data is None:
        return None
    try:
        saved: dict[str, Any] = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
        before = saved["identity"]
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ZooError(f"{path} cannot be read as a saved run ({error}): remove it to start anew") from error
    different = [key for key in identity if before.get(key) != identity[key]]
    if different:
        raise ZooError(
            f"{path} is of a run with another {' and '.join(different)}: "
            "give the arguments of that run, or remove the file (as --no-resume does) to start anew"
        )
    random = [(saved["random"], saved["random_cuda"]), *saved.get("others", [])]
    if len(random) == distributed.world_size():
        cpu, cuda = random[distributed.rank()]
        torch.set_rng_state(cpu.cpu())
        if cuda is not None and device.type == "cuda":
            torch.cuda.set_rng_state(cuda.cpu(), device)
    return saved


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.exists() else None
    except OSError as error:
        raise ZooError(f"{path} cannot be read as a saved run ({error}): remove it to start anew") from error


def _random(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextmanager
def own_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Seed dropout and the like for the run, in each process differently, and give the caller the generators back as
    they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed + 1_000_003 * distributed.rank())
        yield


@contextmanager
def signals(wanted: bool) -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C or SIGTERM comes; a second signal acts as it would have without us."""
    stopped: list[int] = []
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def remember(number: int, frame: object) -> None:
        stopped.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, remember)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
