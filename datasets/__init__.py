"""Data sets of the zoo, by name. Importing this imports no torch; `load` does.

>>> from zoo.datasets import list_datasets, load
>>> list_datasets()
['cifar10', 'folder', 'imagenet', 'imagenette', 'modelnet10', 'modelnet40', 'shapes']
>>> cloud, label = load("shapes", "test")[0]
>>> cloud.shape
torch.Size([3, 512])

The classes themselves are here too, as torch data sets of (sample, label), to be used with torch's DataLoader:

>>> from zoo.datasets import ModelNet40, Shapes
>>> clouds = Shapes(split="train", points=1024)
>>> clouds = ModelNet40("data", split="test")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.datasets.loading import MAX_POINTS, check_request, default_dir, load
from zoo.datasets.registry import (
    DatasetInfo,
    Source,
    dataset_info,
    dataset_title,
    datasets_by_difficulty,
    list_datasets,
    register_dataset,
)
from zoo.utils import lazy_imports

if TYPE_CHECKING:
    from zoo.datasets.base import LabelledDataset
    from zoo.datasets.cifar import Cifar10
    from zoo.datasets.folder import read_sample
    from zoo.datasets.imagenet import ImageNet, Imagenette
    from zoo.datasets.modelnet import ModelNet10, ModelNet40
    from zoo.datasets.shapes import Shapes
    from zoo.datasets.splits import Subset, train_val_split

__getattr__ = lazy_imports(__name__, __file__)
record = dataset_info

__all__ = [
    "MAX_POINTS", "Cifar10", "DatasetInfo", "ImageNet", "Imagenette", "LabelledDataset", "ModelNet10", "ModelNet40",
    "Shapes", "Source", "Subset", "check_request", "dataset_info", "dataset_title", "datasets_by_difficulty",
    "default_dir", "list_datasets", "load", "read_sample", "record", "register_dataset", "train_val_split",
]  # fmt: skip
