"""`load`: one split of a data set by its name, through the loader that the data set registered; and where files lie."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.datasets.registry import check_split, dataset_info, loader_of
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.datasets.base import LabelledDataset

# How to name the data's folder, for messages that users of the command line and of Python both read.
DATA_DIR = "--data-dir DIR (data_dir= in Python)"


def default_dir() -> Path:
    """Where data lies if no folder is given: ZOO_DATA_DIR, or `data` in the user's cache folder."""
    if "ZOO_DATA_DIR" in os.environ:
        return Path(os.environ["ZOO_DATA_DIR"])
    import platformdirs

    return platformdirs.user_cache_path("pruned-zoo") / "data"


def find_folder(root: Path, names: Sequence[str], holds_data: Callable[[Path], bool]) -> Path | None:
    """The folder that holds a data set: `root` itself, or the first of its sub-folders `names` that does."""
    return next((folder for folder in (root, *(root / name for name in names)) if holds_data(folder)), None)


def load(
    name: str,
    split: str,
    *,
    data_dir: str | Path | None = None,
    augment: bool = False,
    seed: int = 0,
    download: bool = False,
    **options: Any,
) -> LabelledDataset:
    """One split, "train" or "test", of the data set `name`.

    data_dir  the data's own folder, or one that holds it under its usual name (default: `default_dir()`)
    augment   whether samples vary as in training, as a function of (seed, epoch, sample)
    download  whether what the data's owners publish (ModelNet) is fetched if it is not there
    options   what `DatasetInfo.options` of the data set lists: `points`, the number of points, for clouds; `size`,
              `mean` and `std` (three numbers each) for images. None means the data set's own default.

    Raises ZooError for a name, split, folder or option that does not fit.
    """
    info = dataset_info(name)
    check_split(split)
    options = {key: value for key, value in options.items() if value is not None}
    for key in sorted(options.keys() - set(info.options)):
        raise ZooError(
            f"{name} holds {info.kind}, so --{key} ({key}=) does not apply; it takes "
            f"{', '.join(sorted(info.options)) or 'no options'}"
        )
    loader = loader_of(name)
    parameters = inspect.signature(loader).parameters
    if download and "root" in parameters and not info.sources:
        raise ZooError(f"{name} cannot be downloaded here (its terms: {info.terms}); give its folder with {DATA_DIR}")
    root = default_dir() if data_dir is None else Path(data_dir)
    common = {"root": root, "augment": augment, "seed": seed, "download": download}
    loaded: LabelledDataset = loader(
        split=split, **{key: value for key, value in common.items() if key in parameters}, **options
    )
    return loaded
