"""`load`: one split of a data set by its name, through the loader that the data set registered; and where files lie."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.datasets.registry import DatasetInfo, check_split, dataset_info, loader_of
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.datasets.base import LabelledDataset

DATA_DIR = "`data_dir=DIR`"  # how messages name the data's folder; the command line turns it into its option
MAX_POINTS = 1 << 16  # of a cloud: DGCNN computes the distances of all pairs


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
    check_split(split)
    info = check_request(name, download=download, **options)
    options = {key: value for key, value in options.items() if value is not None}
    if info.kind is None and data_dir is None:
        raise ZooError(f"the data set {name!r} is a folder of your own: give it with {DATA_DIR}")
    loader = loader_of(name)
    parameters = inspect.signature(loader).parameters
    if download and "root" in parameters and not info.sources:
        raise _unpublished(info)
    root = default_dir() if data_dir is None else Path(data_dir)
    common = {"root": root, "augment": augment, "seed": seed, "download": download}
    loaded: LabelledDataset = loader(
        split=split, **{key: value for key, value in common.items() if key in parameters}, **options
    )
    return loaded


def check_request(name: str, *, download: bool = False, **options: Any) -> DatasetInfo:
    """The record of a data set, if `load` could give it with these options. Reads no data and imports no torch.

    Raises ZooError for an unknown name, an option of other data sets, a size below 1, too many points, and a download
    of what nobody publishes.
    """
    info = dataset_info(name)
    given = {key: value for key, value in options.items() if value is not None}
    for key in sorted(given.keys() - set(info.options)):
        others = ", ".join(f"`{option}`" for option in sorted(info.options))
        raise ZooError(f"{name} holds {info.kind}, so `{key}` does not apply; it takes {others or 'no options'}")
    for key, what in (("points", "a cloud needs"), ("size", "an image needs a side of")):
        if key in given and given[key] < 1:
            unit, usual = ("point", 1024) if key == "points" else ("pixel", 224)
            usual = info.sample_shape[-1] if info.sample_shape else usual
            raise ZooError(f"{what} 1 {unit} or more, not {given[key]}: give for example `{key}={usual}`")
    if given.get("points", 1) > MAX_POINTS:
        raise ZooError(f"a cloud has {MAX_POINTS} points at most, not {given['points']}: give fewer with `points=N`")
    check_normalisation(given.get("mean"), given.get("std"))
    if download and info.folders and not info.sources:
        raise _unpublished(info)
    return info


def check_normalisation(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Raise ZooError unless mean and deviation, where they are given, have a number for each channel."""
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != 3:
            raise ZooError(f"`{name}` takes three numbers (red, green, blue), not {list(values)}")
    if std is not None and not min(std) > 0:
        raise ZooError(f"`std` takes three numbers above 0, not {list(std)}")


def _unpublished(info: DatasetInfo) -> ZooError:
    return ZooError(f"{info.name} cannot be downloaded here (its terms: {info.terms}); give its folder with {DATA_DIR}")
