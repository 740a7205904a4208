"""Data sets of the zoo, by name. Importing this imports no torch; `load` does.

>>> from zoo.datasets import list_datasets, load
>>> list_datasets()
['cifar10', 'imagenet', 'imagenette', 'modelnet10', 'modelnet40', 'shapes']
>>> cloud, label = load("shapes", "test")[0]
>>> cloud.shape
torch.Size([3, 512])
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.datasets.registry import (
    PRUNING_SAMPLES,
    Record,
    check_split,
    dataset_title,
    datasets_by_difficulty,
    list_datasets,
    record,
)
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.datasets.base import LabelledDataset
    from zoo.datasets.splits import train_val_split

__all__ = [
    "PRUNING_SAMPLES",
    "LabelledDataset",
    "Record",
    "dataset_title",
    "datasets_by_difficulty",
    "list_datasets",
    "load",
    "record",
    "train_val_split",
]

_LAZY = {"LabelledDataset": "base", "train_val_split": "splits"}  # these import torch


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"zoo.datasets.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def default_dir() -> Path:
    """Where data lies if no folder is given: ZOO_DATA_DIR, or `data` in the user's cache folder."""
    if "ZOO_DATA_DIR" in os.environ:
        return Path(os.environ["ZOO_DATA_DIR"])
    import platformdirs

    return platformdirs.user_cache_path("pruned-zoo") / "data"


def _folder(known: Record, data_dir: str | Path | None) -> Path:
    """`data_dir` itself, or the folder of one of the data set's usual names in it."""
    root = default_dir() if data_dir is None else Path(data_dir).expanduser()
    return next((root / name for name in known.folders if (root / name).is_dir()), root)


def load(
    name: str,
    split: str,
    *,
    data_dir: str | Path | None = None,
    points: int | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: bool = False,
    seed: int = 0,
    download: bool = False,
) -> LabelledDataset:
    """One split, "train" or "test", of the data set `name`.

    data_dir: the data's own folder, or one that holds it under its usual name. `points` is for point clouds;
    `size`, `mean` and `std` (three numbers each) are for images. `augment` varies the samples as training
    does, seeded by (seed, epoch, sample). `download` fetches what its owners publish (ModelNet).
    Raises ZooError for a name, split, folder or option that does not fit.
    """
    known = record(name)
    check_split(split)
    options = {"points": points, "size": size, "mean": mean, "std": std}
    fitting = {"points"} if known.kind == "points" else {"size", "mean", "std"}
    given = {key: value for key, value in options.items() if value is not None}
    for key in sorted(given.keys() - fitting):
        raise ZooError(f"{name} holds {known.kind}, so {key}= does not apply; it takes {', '.join(sorted(fitting))}")
    default = {"points": known.points} if known.kind == "points" else {"size": known.size}
    common: dict[str, Any] = {"augment": augment, "seed": seed, **default, **given}

    if known.name == "shapes":
        from zoo.datasets.shapes import Shapes

        return Shapes(split, **common)
    if known.kind == "points":
        from zoo.datasets import modelnet

        kind = {"modelnet10": modelnet.ModelNet10, "modelnet40": modelnet.ModelNet40}[known.name]
        root = default_dir() if data_dir is None else Path(data_dir)
        return kind(root, split, download=download, **common)
    if download:
        raise ZooError(f"{name} cannot be downloaded here (its terms: {known.terms}); give its folder as data_dir")
    root = _folder(known, data_dir)
    if known.name == "cifar10":
        from zoo.datasets.cifar import SIZE, Cifar10

        if common.pop("size") != SIZE:
            raise ZooError(f"cifar10 is stored in {SIZE} x {SIZE}; size={size} is not offered")
        return Cifar10(root, split, **common)
    from zoo.datasets.imagenet import ImageNet

    if known.name == "imagenette":
        common["resize"] = common["size"]  # stored with a shorter side of 128, which then stays as it is
    return ImageNet(root, split, **common)
