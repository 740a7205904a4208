"""All steps of a GPU day, one after another, each in its own process and within its part of the time."""

from __future__ import annotations

import os
import platform
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import click

from gpu_day.common import OUT, SCALE, device_for, read_lines

TESTS = Path(__file__).parents[2] / "tests"
RESERVE = 10.0  # seconds for the summary, and between a step's end and its being killed
BROKEN = 3  # exit code of a step that lost the GPU's context: it goes on in a new process


@dataclass(frozen=True)
class Step:
    """A module of gpu_day with its options; `share` is the part of the whole time that it may take at most."""

    name: str
    share: float
    module: str
    options: tuple[str, ...] = ()


# The cheap settings of all entries come before what takes long; the last step has all the time that is left.
STEPS = (
    Step("kernels", 0.1, "kernels"),
    Step("forward", 0.28, "forward", ("--modes", "eager,cuda_graph")),
    Step("networks", 0.14, "networks"),
    Step("pruning", 0.16, "pruning"),
    Step("tests", 0.1, "pytest"),
    Step("compiled", 1.0, "forward", ("--modes", "compiled")),
)


def run_step(command: Sequence[str], seconds: float, log: TextIO, env: Mapping[str, str]) -> int:
    """Run a command, its output printed and logged as it comes; after `seconds` it is stopped, and soon after killed.
    Returns its exit code, negative for a signal."""
    options = {"stderr": subprocess.STDOUT, "text": True, "errors": "replace", "start_new_session": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(env), **options) as process:

        def kill() -> None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # compilers run in processes of their own

        timers = [threading.Timer(seconds, process.terminate), threading.Timer(seconds + RESERVE / 2, kill)]
        try:
            for timer in timers:
                timer.start()
            for line in process.stdout or ():
                click.echo(line, nl=False)
                log.write(line)
                log.flush()
            return process.wait()
        finally:
            for timer in timers:
                timer.cancel()
            kill()


def command_of(
    step: Step, out: Path, seconds: float, scale: float, device: str | None, cards: Sequence[str]
) -> list[str]:
    """What runs a step."""
    if step.module == "pytest":
        files = [str(path) for path in sorted(TESTS.rglob("test_*.py")) if "cuda.is_available()" in path.read_text()]
        words = "-m pytest -q -p no:cacheprovider -m '' -k 'gpu or cuda_graph'"
        return [sys.executable, *shlex.split(words), *files]
    command = [sys.executable, "-m", "gpu_day", step.module, str(out), f"--seconds={seconds:.0f}", f"--scale={scale}"]
    command += [f"--device={device}"] if device else []
    folders = [f"--cards={folder}" for folder in cards] if step.module == "forward" else []
    return [*command, *step.options, *folders]


def summary(out: Path, states: Mapping[str, str]) -> str:
    """The state of every step, and what was measured."""
    from gpu_day.forward import table

    lines = [f"{name}: {state}" for name, state in states.items()]
    for name in ("kernels", "networks", "pruning"):
        lines += ["", f"-- {name}", *(line["text"] for line in read_lines(out / f"{name}.jsonl"))]
    forward = read_lines(out / "forward.jsonl")
    lines += ["", "-- forward", table(forward), *(line["text"] for line in forward if "failed" in line)]
    return "\n".join(lines) + "\n"


@click.command()
@OUT
@SCALE
@click.option("--minutes", default=9.0, show_default=True, help="Time for all steps.")
@click.option("--steps", default=",".join(step.name for step in STEPS), show_default=True)
@click.option("--device", help="[the GPU; in a rehearsal without one, the CPU]")
@click.option("--cards", multiple=True, help="Folder of entries to time; may be repeated [all of this clone].")
def main(out: Path, scale: float, minutes: float, steps: str, device: str | None, cards: tuple[str, ...]) -> None:
    end = time.monotonic() + 60 * minutes - 2 * RESERVE
    click.echo(f"{device_for(device, scale)}, {platform.node()}, Python {platform.python_version()}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the step that runs is ended, too
    chosen = [step for step in STEPS if step.name in steps.split(",")]
    if not chosen:
        raise click.UsageError(f"no step {steps!r}: possible are {', '.join(step.name for step in STEPS)}")
    out.mkdir(parents=True, exist_ok=True)
    env, states = dict(os.environ), {}
    with open(out / "log.txt", "a", encoding="utf-8") as log:
        for step in chosen:
            code = BROKEN
            share = time.monotonic() + 60 * minutes * step.share
            while code == BROKEN and (seconds := min(share, end) - time.monotonic()) > RESERVE / 2:
                click.echo(f"== {step.name}, {seconds:.0f} s at most")
                began = time.monotonic()
                code = run_step(command_of(step, out, seconds, scale, device, cards), seconds, log, env)
                states[step.name] = f"exit code {code} after {time.monotonic() - began:.0f} s"
            states.setdefault(step.name, "no time left")
            click.echo(f"== {step.name}: {states[step.name]}")
            if step.module == "kernels" and code != 0:
                env["ZOO_TRITON"] = "0"
                click.echo("== a Triton kernel is wrong or breaks: the steps after this one run without")
        text = summary(out, states)
        (out / "summary.txt").write_text(text, encoding="utf-8")
        click.echo(text)
    sys.exit(any("exit code 0" not in state for state in states.values()))
