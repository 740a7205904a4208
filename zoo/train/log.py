"""The log of a training run: a file of JSON lines, and a line of text per epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from zoo.errors import ZooError
from zoo.utils import new_file

History = Sequence[Mapping[str, float]]


def write_log(log: Path | None, history: History) -> None:
    """Write one line of JSON per epoch.

    The whole file is written each time, so that a resumed run neither loses nor repeats an epoch.

    Raises ZooError if the file cannot be written.
    """
    if log is not None and history:
        with new_file(log) as out:
            out.write("".join(json.dumps(epoch) + "\n" for epoch in history).encode())


def check_log(log: Path | None) -> None:
    """Raise ZooError if the log cannot be written; a log that exists is left as it is."""
    if log is None:
        return
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.open("a").close()
    except OSError as error:
        raise ZooError(f"cannot write the log {log}: {error.strerror}") from error


def epoch_line(history: History, epochs: int) -> str:
    """A line of text on the last epoch of the history, with an estimate of the time that is left."""
    last = history[-1]
    parts = [f"epoch {last['epoch']}/{epochs}", f"loss {last['loss']:.4f}"]
    parts.append(f"train accuracy {last['train_accuracy']:.4f}")
    if "validation_accuracy" in last:
        parts.append(f"validation accuracy {last['validation_accuracy']:.4f}")
    parts += [f"lr {last['lr']:.2g}", f"{last['seconds']:.0f} s"]
    if epochs_left := epochs - len(history):
        mean = sum(epoch["seconds"] for epoch in history) / len(history)
        parts.append(f"{tqdm.format_interval(epochs_left * mean)} left")
    return "  ".join(parts)
