"""What a training run tells of its epochs: a file of JSON lines, and a line for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from zoo.errors import ZooError
from zoo.utils import new_file

History = Sequence[Mapping[str, float]]


def write_log(log: Path | None, history: History) -> None:
    """One line of JSON per epoch. All are written anew, so that a run that goes on neither loses nor repeats one.

    Raises ZooError where the file cannot be written.
    """
    if log is not None and history:
        with new_file(log) as out:
            out.write("".join(json.dumps(epoch) + "\n" for epoch in history).encode())


def check_log(log: Path | None) -> None:
    """Raise ZooError where the file could not be written, before there is anything to write; what is there stays."""
    if log is None:
        return
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.open("a").close()
    except OSError as error:
        raise ZooError(f"cannot write the log {log}: {error.strerror}") from error


def epoch_line(history: History, epochs: int) -> str:
    """The last epoch of the history, and the time that the rest of all `epochs` will take."""
    last = history[-1]
    parts = [f"epoch {last['epoch']}/{epochs}", f"loss {last['loss']:.4f}"]
    parts.append(f"train accuracy {last['train_accuracy']:.4f}")
    if "validation_accuracy" in last:
        parts.append(f"validation accuracy {last['validation_accuracy']:.4f}")
    parts += [f"lr {last['lr']:.2g}", f"{last['seconds']:.0f} s"]
    if left := epochs - len(history):
        mean = sum(epoch["seconds"] for epoch in history) / len(history)
        parts.append(f"{tqdm.format_interval(left * mean)} left")
    return "  ".join(parts)
