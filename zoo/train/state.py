"""The resume file of a training run: progress, whatever else must be restored, and the random states.

Of several processes rank 0 writes and reads the file; every process has a random state of its own.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import distributed
from zoo.errors import ZooError, excerpt, first_line
from zoo.utils import check_stored, new_file, open_zip


@dataclass
class TrainState:
    """Progress of a run: `step` batches of epoch `epoch` are done.

    `loss`, `correct` and `seen` are sums over the samples of those batches in all processes, `seconds` their time, and
    `history` the log of the finished epochs.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def check_state(state: TrainState, epochs: int, steps: int) -> None:
    """Raise ValueError if a run of so many epochs of so many steps cannot be there."""
    numbers = {"epoch": (state.epoch, epochs), "step": (state.step, steps)}
    for name, (number, largest) in numbers.items():
        if type(number) is not int or not 0 <= number <= largest:
            raise ValueError(f"{name} is {excerpt(number)}")
    sums = (state.loss, state.correct, state.seen, state.seconds)
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in sums):
        raise ValueError("a sum is no number")
    if len(state.history) != state.epoch or not all(isinstance(epoch, dict) for epoch in state.history):
        raise ValueError("its history is one of another run")


def save_state(path: Path, content: Mapping[str, Any], device: torch.device) -> None:
    """Write the content of a run, which has an "identity", and the random states of all processes."""
    first, *others = distributed.all_gather_object(_random_states(device))

    def write() -> None:
        buffer = io.BytesIO()
        torch.save({**content, "random": first[0], "random_cuda": first[1], "others": others}, buffer)
        with new_file(path) as out:
            out.write(buffer.getvalue())

    distributed.run_on_rank0(write)


def load_state(path: Path, identity: Mapping[str, Any], device: torch.device) -> dict[str, Any] | None:
    """The content that `save_state` wrote for a run of this identity, on the device; None if there is no file.

    The random states are restored, unless another number of processes saved them.

    Raises ZooError if the file cannot be read or is of another run.
    """
    data = distributed.run_on_rank0(lambda: _read(path))
    if data is None:
        return None
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
        saved_identity = content["identity"]
        different = [key for key in identity if saved_identity.get(key) != identity[key]]
    except Exception as error:  # a damaged pickle can raise anything at all
        raise unreadable(path, error) from error
    if different:
        raise ZooError(
            f"{path} is of a run with another {' and '.join(different)}: "
            "give the arguments of that run, or remove the file (as `resume=False` does) to start anew"
        )
    try:
        random_states = [(content["random"], content["random_cuda"]), *content.get("others", [])]
        if len(random_states) == distributed.world_size():
            cpu, cuda = random_states[distributed.rank()]
            torch.set_rng_state(cpu.cpu())
            if cuda is not None and device.type == "cuda":
                torch.cuda.set_rng_state(cuda.cpu(), device)
    except Exception as error:
        raise unreadable(path, error) from error
    return content


def unreadable(path: Path, error: Exception) -> ZooError:
    """The error for a file that is no saved run."""
    return ZooError(f"{path} cannot be read as a saved run ({first_line(error)}): remove it to start anew")


@contextmanager
def seeded_rng(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's generators, differently in each process, for dropout and the like; restore the caller's after it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed + 1_000_003 * distributed.rank())
        yield


def _read(path: Path) -> bytes | None:
    try:
        if not path.exists():
            return None
        with open_zip(path) as archive:
            check_stored(archive, path.stat().st_size)  # torch asks for the memory that a damaged length names
        return path.read_bytes()
    except (OSError, ZooError) as error:
        raise unreadable(path, error) from error


def _random_states(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None
