"""DGCNN on ModelNet10 at full length, 1024 points and 250 epochs, from what `gpu_day.sh pack` put into carry/.

    bash benchmarks/gpu_day.sh train [OUT] [--minutes 9] [--arch dgcnn] [--epochs 250] [--workers N]

It is `zoo train`, stopped in time. OUT gets the log of its epochs, train.jsonl, the trained entry when it is done, and
until then the state of the run, train-*.pt, twice a minute. With that file in carry/ the same command goes on from it,
on any machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from gpu_day.common import OUT, SCALE, device_for, read_lines
from gpu_day.pack import CARRY
from zoo import datasets
from zoo.evaluate import batch_indices, batches
from zoo.utils import new_file

GRACE = 20.0  # seconds to save in, when the time is over
EVERY = 30.0  # seconds between two copies of the state


def best_workers(data: Path, points: int) -> int:
    """0 or 4 loader processes, whichever brings an epoch of samples sooner, their start included."""
    import torch

    samples = datasets.load("modelnet10", "train", data_dir=data, points=points, augment=True)
    seconds = {}
    for workers in (0, 4):
        began = time.monotonic()
        for _ in batches(samples, batch_indices(len(samples), 32), device=torch.device("cpu"), workers=workers):
            pass
        seconds[workers] = time.monotonic() - began
    click.echo(f"an epoch of samples takes {seconds[0]:.1f} s, with 4 loader processes {seconds[4]:.1f} s")
    return min(seconds, key=seconds.__getitem__)


def copy_state(home: Path, out: Path) -> None:
    """Copy the states of runs to OUT, named after the folder that keeps them."""
    for state in home.glob("runs/train-*/train.pt"):
        copy = out / f"{state.parent.name}.pt"
        if not copy.exists() or copy.stat().st_mtime < state.stat().st_mtime:
            with new_file(copy) as file:
                file.write(state.read_bytes())


@click.command()
@OUT
@SCALE
@CARRY
@click.option("--minutes", default=9.0, show_default=True)
@click.option("--arch", default="dgcnn", show_default=True)
@click.option("--epochs", default=250, show_default=True)
@click.option("--workers", type=int, help="Processes that load data [0 or 4, what is faster].")
@click.option("--device", help="[the GPU; in a rehearsal without one, the CPU]")
def main(
    out: Path,
    scale: float,
    carry: Path,
    minutes: float,
    arch: str,
    epochs: int,
    workers: int | None,
    device: str | None,
) -> None:
    end = time.monotonic() + 60 * minutes - GRACE
    where = device_for(device, scale)
    points, epochs = (1024, epochs) if scale == 1 else (max(32, int(1024 * scale)), max(2, int(epochs * scale)))
    data, home = carry / "modelnet10", carry / "home"
    if not data.is_dir():
        raise click.ClickException(f"there is no {data}: type bash benchmarks/gpu_day.sh pack DATA_DIR first")
    out.mkdir(parents=True, exist_ok=True)
    for state in carry.glob("train-*.pt"):
        folder = home / "runs" / state.stem
        if not (folder / "train.pt").exists():
            folder.mkdir(parents=True)
            shutil.copy(state, folder / "train.pt")
    workers = best_workers(data, points) if workers is None else workers
    log = out / "train.jsonl"
    options = {
        "dataset": "modelnet10", "data-dir": data, "points": points, "epochs": epochs, "workers": workers,
        "device": where.type, "log": log, "out": out / "entry", "name": f"{arch}-{epochs}-epochs.modelnet10",
    }  # fmt: skip
    command = [sys.executable, "-m", "zoo", "train", arch, *(f"--{key}={value}" for key, value in options.items())]
    process = subprocess.Popen(command, env={**os.environ, "ZOO_HOME": str(home)})
    # When it is stopped it saves its state, and the same command goes on from there.
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    stopped = False
    while (code := process.poll()) is None:
        try:
            process.wait(max(0.1, min(EVERY, end - time.monotonic())))
        except subprocess.TimeoutExpired:
            copy_state(home, out)
            if time.monotonic() >= end and not stopped:
                process.terminate()
                stopped, end = True, end + GRACE
            elif stopped and time.monotonic() >= end:
                process.kill()
            elif lines := read_lines(log):
                done, seconds = len(lines), sum(line["seconds"] for line in lines)
                left = (epochs - done) * seconds / done
                click.echo(
                    f"{seconds / done:.2f} s an epoch, {left:.0f} s to go, {end - time.monotonic():.0f} s are left"
                )
    copy_state(home, out)
    if code == 0:
        for state in out.glob("train-*.pt"):
            state.unlink()
    sys.exit(code)
