"""ModelNet10 as float16 into the ignored folder carry/, for `gpu_day.sh train` on a machine without a network.

    bash benchmarks/gpu_day.sh pack DATA_DIR [--carry carry]

The files have the layout that `zoo train --data-dir` reads, compressed: 24 MiB instead of 59. At the end it says how
large the tree and carry/ are together, for machines that take at most 64 MiB.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import click
import h5py
import numpy as np

from zoo import datasets

ROOT = Path(__file__).resolve().parents[2]
MOST = 64  # MiB that may travel
CARRY = click.option("--carry", default=ROOT / "carry", show_default="carry/ in this clone",
                     type=click.Path(file_okay=False, path_type=Path))  # fmt: skip


def pack(data_dir: Path, folder: Path, points: int) -> None:
    """Write both splits into `folder`, the first `points` points of each cloud."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        data = datasets.load("modelnet10", split, data_dir=data_dir, points=points)
        clouds = np.stack([data[i][0].T.numpy() for i in range(len(data))]).astype(np.float16)  # n, points, 3
        with h5py.File(folder / f"{split}.h5", "w") as file:
            file.create_dataset(
                "data", data=clouds, chunks=(min(64, len(data)), *clouds.shape[1:]), shuffle=True, compression=9
            )
            file["label"] = np.array([[data.label(i)] for i in range(len(data))], dtype=np.uint8)
        (folder / f"{split}_files.txt").write_text(f"{split}.h5\n", encoding="utf-8")
        click.echo(f"{split}: {len(data)} clouds, {(folder / f'{split}.h5').stat().st_size / 2**20:.1f} MiB")
    (folder / "shape_names.txt").write_text("\n".join(data.classes) + "\n", encoding="utf-8")


def mebibytes(files: list[Path]) -> float:
    return sum(file.stat().st_size for file in files if file.is_file()) / 2**20


@click.command()
@click.argument("data_dir", type=click.Path(file_okay=False, exists=True, path_type=Path))
@CARRY
@click.option("--points", default=1024, show_default=True)
def main(data_dir: Path, carry: Path, points: int) -> None:
    pack(data_dir, carry / "modelnet10", points)
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-zco", "--exclude-standard"], capture_output=True, check=True
    )
    tree, carried = (
        mebibytes([ROOT / name for name in listed.stdout.decode().split("\0") if name]),
        mebibytes([*carry.rglob("*")]),
    )
    click.echo(f"{carry}: {carried:.0f} MiB; the tree: {tree:.0f} MiB")
    if tree + carried > MOST:
        click.echo(f"that is more than {MOST} MiB: leave mirror/ at home by\n"
                   "    git sparse-checkout set --no-cone '/*' '!/mirror/'\n"
                   "and fetch it again afterwards by: git sparse-checkout disable")  # fmt: skip
