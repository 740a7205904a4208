"""Single files as samples of a data set: prepared as its test samples are, without a label."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from zoo.datasets.folder.listing import check_file
from zoo.datasets.folder.shape_files import ShapeFiles
from zoo.datasets.image_files import ImageFiles, Resize
from zoo.datasets.image_transforms import MEAN, STD
from zoo.datasets.registry import dataset_info, loader_of
from zoo.errors import ZooError


def read_sample(
    path: Path,
    dataset: str,
    sample_shape: Sequence[int],
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Tensor:
    """A file as a sample of a data set, of the given shape: the tensor that the test split would have for it.

    mean, std  of the channels of an image (None: the data set's)

    Raises ZooError for a file that is not there, is of another kind, or cannot be read, and for a data set that does
    not say how its images are prepared.
    """
    check_file(path, sample_shape)
    if len(sample_shape) == 2:
        return ShapeFiles([(path, 0)], ("",), points=sample_shape[1]).load_sample(0)
    info = dataset_info(dataset)
    if info.resize is None:
        raise ZooError(f"the data set {dataset} does not say how its images are prepared, so {path} cannot be")
    defaults = inspect.signature(loader_of(dataset)).parameters
    mean, std = mean or defaults["mean"].default or MEAN, std or defaults["std"].default or STD
    size = sample_shape[-1]
    resize: Resize = size if info.resize == "size" else "auto"
    return ImageFiles([(path, 0)], ("",), size=size, resize=resize, mean=mean, std=std).load_sample(0)
