"""The data set "folder": class folders of images or shapes of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.datasets.base import LabelledDataset
from zoo.datasets.folder.listing import list_folder
from zoo.datasets.folder.shape_files import ShapeFiles
from zoo.datasets.image_files import ImageFiles
from zoo.datasets.image_transforms import MEAN, STD
from zoo.datasets.registry import DatasetInfo, check_split, register_dataset
from zoo.errors import ZooError


@register_dataset(
    DatasetInfo(
        name="folder",
        kind=None,
        num_classes=None,
        sample_shape=(),
        description="your own class folders: images, meshes (OFF, PLY, OBJ, STL) or clouds (PLY, XYZ, TXT, NPY, NPZ)",
        terms="not stated (your own data)",
        resize="auto",
        options=("points", "size", "mean", "std"),
    )
)
def load_folder(
    root: str | Path,
    split: str,
    *,
    points: int | None = None,
    size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: bool = False,
    seed: int = 0,
) -> LabelledDataset:
    """The files of a folder (`zoo.datasets.folder.listing`) as `ImageFiles` or `ShapeFiles`.

    Of the options those of the kind of file that the folder holds apply. Raises ZooError for others, a folder that
    does not fit, a split without files, and files that cannot be read.
    """
    root = Path(root).expanduser()
    listing = list_folder(root)
    samples = listing.train if check_split(split) == "train" else listing.test
    if not samples:
        raise ZooError(f"{root} holds no files to {split} on in a folder of one of its classes")
    images = listing.kind == "images"
    others = {"points": points} if images else {"size": size, "mean": mean, "std": std}
    for name, value in others.items():
        if value is not None:
            raise ZooError(f"{root} holds {'images' if images else 'shapes'}, so `{name}` does not apply")
    if images:
        return ImageFiles(
            samples, listing.classes, size=size or 224, mean=mean or MEAN, std=std or STD, augment=augment, seed=seed
        )
    return ShapeFiles(samples, listing.classes, points=points or 1024, augment=augment, seed=seed)
