"""What the steps share: their options, their result lines, and that a failure ends one measurement and not the step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

OUT = click.argument("out", default="results", type=click.Path(file_okay=False, path_type=Path))
SCALE = click.option("--scale", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True,
                     help="Part of the full size; below 1 a rehearsal, whose figures are never merged.")  # fmt: skip


def step_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every step of `run`."""
    for option in (
        click.option("--seconds", default=540.0, show_default=True, help="Time for this step."),
        click.option("--device", help="[the GPU; in a rehearsal without one, the CPU]"),
        SCALE,
        OUT,
    ):
        command = option(command)
    return command


def device_for(device: str | None, scale: float) -> Any:
    """The torch.device of a step; ClickException without a GPU, unless this is a rehearsal or asks for the CPU."""
    import torch

    from zoo.distributed import device_of
    from zoo.utils import keep_freed_memory

    keep_freed_memory()
    if device is None and scale < 1 and not torch.cuda.is_available():
        device = "cpu"
    if (device or "cuda").startswith("cuda") and not torch.cuda.is_available():
        raise click.ClickException("there is no CUDA GPU here: nothing was measured, and nothing written")
    return device_of(device or "cuda")


class Recorder:
    """Prints each result and appends it to a file of JSON lines, so that a run which is killed keeps what it has."""

    def __init__(self, path: Path, seconds: float, scale: float = 1.0) -> None:
        self.path, self.scale, self.failures = path, scale, 0
        self.deadline = time.monotonic() + seconds

    def __call__(self, text: str, **fields: object) -> None:
        click.echo(text)
        scaled = {} if self.scale == 1 else {"scale": self.scale}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"text": text, **scaled, **fields}) + "\n")

    @contextmanager
    def measuring(self, name: str) -> Iterator[None]:
        """Record an exception as the failure of `name`, or that the step's time was over before."""
        try:
            if time.monotonic() > self.deadline:
                raise TimeoutError("no time left")
            yield
        except Exception as error:  # compilers and drivers raise anything; the other measurements are worth having
            self.failures += 1
            self(f"{name}: failed, {reason(error)}", failed=name)


def reason(error: BaseException) -> str:
    """The first line of an exception's message, or its type's name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a `Recorder` that are whole; none if there is no file."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:  # cut off by a kill
            continue
    return [line for line in lines if isinstance(line, dict)]
