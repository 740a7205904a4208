"""Data sets of the zoo, by name. Importing this imports no torch; `load` does.

>>> from zoo.datasets import list_datasets, load
>>> list_datasets()
['cifar10', 'imagenet', 'imagenette', 'modelnet10', 'modelnet40', 'shapes']
>>> cloud, label = load("shapes", "test")[0]
>>> cloud.shape
torch.Size([3, 512])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from zoo.datasets.loading import check_request, default_dir, load
from zoo.datasets.registry import (
    DatasetInfo,
    Source,
    dataset_info,
    dataset_title,
    datasets_by_difficulty,
    list_datasets,
    register_dataset,
)

if TYPE_CHECKING:
    from zoo.datasets.base import LabelledDataset
    from zoo.datasets.splits import Subset, train_val_split
else:
    _TORCH = {"LabelledDataset": "base", "Subset": "splits", "train_val_split": "splits"}

    def __getattr__(name: str) -> object:
        if name not in _TORCH:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"zoo.datasets.{_TORCH[name]}"), name)


record = dataset_info

__all__ = [
    "DatasetInfo", "LabelledDataset", "Source", "Subset", "check_request", "dataset_info", "dataset_title",
    "datasets_by_difficulty", "default_dir", "list_datasets", "load", "record", "register_dataset", "train_val_split",
]  # fmt: skip
