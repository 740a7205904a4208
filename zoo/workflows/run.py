"""Where a command runs, where a killed run continues, and under which name its entry is saved."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import distributed, store
from zoo.cards import MAX_NAME_LENGTH, parse_name
from zoo.errors import ZooError
from zoo.utils import check_folder
from zoo.workflows.command_words import same_command

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a command runs and how its entry is stored; which network comes out does not depend on these.

    device        cpu, cuda or cuda:<number>; None is the first GPU if there is one
    workers       the number of processes that load data
    memory        GiB for activations that pruning keeps (`zoo.prune.Runtime`); None is the default of it
    resume        whether a run with the same settings that was killed continues
    log           a file that gets a line of JSON for each epoch
    progress      whether progress is shown
    name          of the new entry; None is the command's own choice
    output_dir    the folder that the entry is saved in; None is the user's zoo
    overwrite     whether an entry of that name is replaced
    fp16_weights  whether weights are stored in float16 where that changes no decision (`zoo.half_precision`)
    mirror        where an entry that is not on this machine is downloaded from; none is those of ``ZOO_MIRROR``
    """

    device: str | None = None
    workers: int = 0
    memory: float | None = None
    resume: bool = True
    log: Path | None = None
    progress: bool = False
    name: str | None = None
    output_dir: Path | None = None
    overwrite: bool = False
    fp16_weights: bool = False
    mirror: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.memory is not None and not (math.isfinite(self.memory) and self.memory >= 0):
            raise ZooError(f"`memory` is {self.memory}: give GiB, a number from 0 up")

    @property
    def folder(self) -> Path:
        """The folder that the entry is saved in."""
        return store.user_dir() if self.output_dir is None else self.output_dir


def choose_device(name: str | None) -> torch.device:
    """The device of that name; for None the first GPU, or the CPU without one. Each of several processes gets a GPU of
    its own."""
    import torch

    device = distributed.device_of(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.index is not None and distributed.is_distributed():
        raise ZooError(
            f"`device={device}` is one GPU for several processes: give `device=cuda`, and each takes its own"
        )
    return distributed.local_device(str(device))


@contextmanager
def run_folder(command: str, settings: Mapping[str, Any], *, resume: bool) -> Iterator[Path]:
    """The folder that keeps the state of a run with these settings until the run has succeeded.

    A run that fails or is killed leaves the folder, and a run with the same settings continues from it; without
    `resume` it is emptied first. Settings that do not change the result (the name of the entry, its folder) are not
    given. Of several processes the first creates and removes the folder, while all others wait.
    """
    text = json.dumps([command, settings], sort_keys=True, default=str)
    folder = store.home() / "runs" / f"{command}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not resume:
        _remove(folder)
    yield folder
    _remove(folder)


def _remove(folder: Path) -> None:
    distributed.all_gather_object(None)  # a barrier: no process works in the folder any more
    distributed.run_on_rank0(lambda: shutil.rmtree(folder, ignore_errors=True))


def check_output_dir(run: RunOptions) -> None:
    """Create the folder that the entry is saved in. Raises ZooError, before anything slow, if it cannot be written."""
    distributed.run_on_rank0(lambda: check_folder(run.folder))


def check_name(name: str, command: str, run: RunOptions, *, parent: str | None = None) -> bool:
    """Whether an entry of that name may be replaced: with `run.overwrite`, or if the same command made it.

    Raises ZooError if the name is not one, or that of the parent, of a shipped entry or of an entry that another
    command made. The first process checks for all.
    """
    if name == parent:
        raise ZooError(f"{name} would be its own parent: give this one another name with `name`")
    return distributed.run_on_rank0(lambda: _may_replace(name, command, run))


def free_name(name: str, command: str, run: RunOptions) -> tuple[str, bool]:
    """The name that a finished network gets, and whether an entry of that name is replaced: `name` where that may be
    (`check_name`), and otherwise the same with the first number behind it that no other command's entry has.

    Of several processes the first asks.
    """
    parsed = parse_name(name)
    for number in itertools.count(1):
        suffix = f"-{number}" if number > 1 else ""
        room = MAX_NAME_LENGTH - len(name) - len(suffix)
        stem = parsed.stem[:room] if room < 0 else parsed.stem
        candidate = str(replace(parsed, stem=stem + suffix))
        try:
            return candidate, _may_replace(candidate, command, run)
        except ZooError:
            continue
    raise AssertionError  # count() does not end


def _may_replace(name: str, command: str, run: RunOptions) -> bool:
    parse_name(name)
    file = run.folder / f"{name}.json"
    if run.output_dir is None and store.is_shipped(name):
        raise ZooError(
            f"{name} is the name of an entry that is shipped: "
            "give yours another one with `name`, or write it to a folder of its own with `output_dir=DIR`"
        )
    if run.overwrite or not file.exists():
        return run.overwrite
    other = str(store.read_card(file).recipe["command"])
    if not same_command(other, command):
        raise ZooError(
            f"{run.folder} has an entry {name} already, made by `{other}`: "
            "give this one another name with `name`, or replace that one with `overwrite=True`"
        )
    return True
