"""ModelNet in the layouts that it comes in, written in the real formats."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from zoo.datasets.modelnet import MODELNET10

ROWS = {"train": 24, "test": 12}


def write_hdf5(folder: Path, names: tuple[str, ...], points: int = 64) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Stanford's layout; returns data and label of each split. The train split lies in two files."""
    folder.mkdir(parents=True)
    (folder / "shape_names.txt").write_text("\n".join(names) + "\n")
    written = {}
    rng = np.random.default_rng(0)
    for split, count in ROWS.items():
        data = rng.normal(size=(count, points, 3)).astype(np.float32) + 2
        label = rng.integers(len(names), size=(count, 1)).astype(np.uint8)
        written[split] = data, label[:, 0]
        listed = []
        for part, rows in enumerate(np.array_split(np.arange(count), 2 if split == "train" else 1)):
            with h5py.File(folder / f"ply_data_{split}{part}.h5", "w") as file:
                file["data"], file["label"] = data[rows], label[rows]
            listed.append(f"data/modelnet40_ply_hdf5_2048/ply_data_{split}{part}.h5")
        (folder / f"{split}_files.txt").write_text("\n".join(listed) + "\n")
    return written


BOX = [(0, 0, 0), (1, 0, 0), (1, 2, 0), (0, 2, 0), (0, 0, 3), (1, 0, 3), (1, 2, 3), (0, 2, 3)]

SIDES = [(0, 1, 2, 3), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]


def off_text(scale: float = 1.0, header: str = "OFF\n8 6 0") -> str:
    places = [" ".join(str(scale * value) for value in place) for place in BOX]
    faces = [" ".join(map(str, (4, *side))) for side in SIDES]
    return "\n".join([header, *places, *faces]) + "\n"


def write_off(folder: Path, names: tuple[str, ...] = MODELNET10, count: int = 2) -> None:
    """Princeton's layout: `count` boxes of different sizes for each class and split."""
    for index, name in enumerate(names):
        for split in ("train", "test"):
            (folder / name / split).mkdir(parents=True)
            for number in range(count):
                text = off_text(1.0 + index + number, "OFF8 6 0" if number == 1 else "OFF\n8 6 0")
                (folder / name / split / f"{name}_{number:04}.off").write_text(text)


def write_text(folder: Path, names: tuple[str, ...], points: int, lists: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The layout of modelnet40_normal_resampled; returns the points of each sample."""
    rng = np.random.default_rng(1)
    written = {}
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(3):
            cloud = rng.normal(size=(points, 6)) + 5
            np.savetxt(folder / name / f"{name}_{number:04}.txt", cloud, fmt="%.6f", delimiter=",")
            written[f"{name}_{number:04}"] = cloud[:, :3]
    for start in lists:
        (folder / f"{start}_shape_names.txt").write_text("\n".join(names) + "\n")
        for split, numbers in (("train", (2, 0)), ("test", (1,))):
            samples = [f"{name}_{number:04}" for number in numbers for name in names]
            (folder / f"{start}_{split}.txt").write_text("\r\n".join(samples) + "\r\n")
    return written
