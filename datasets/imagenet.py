"""ImageNet (ILSVRC 2012), Imagenette, and other images in folders train/ and val/ with one sub-folder per class.

A part of a data set is accepted too: a class folder may be empty, and a class may have a folder in one split only. The
labels are indices into `classes=` if given, else into wnids.txt of the root, else into the sorted names of all class
folders. Tiny ImageNet, and ILSVRC's validation images in one folder, are read as they come (`flat_images`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from zoo.datasets.files import ILSVRC_VAL, IMAGE_SUFFIXES, UNPACK, flat_images, list_files, list_folders, read_lines
from zoo.datasets.image_files import ImageFiles, Resize
from zoo.datasets.image_transforms import MEAN, STD
from zoo.datasets.loading import DATA_DIR, find_folder
from zoo.datasets.registry import DatasetInfo, check_split, dataset_info, register_dataset
from zoo.errors import ZooError

FOLDERS = {"train": ("train",), "test": ("val", "ILSVRC2012_img_val")}


def split_folder(root: Path, split: str) -> Path | None:
    """The folder of a split, for "test" also `root` itself with ILSVRC's validation images; None if there is none."""
    folder = next((root / name for name in FOLDERS[split] if (root / name).is_dir()), None)
    return root if folder is None and split == "test" and next(root.glob(f"{ILSVRC_VAL}*"), None) else folder


def find_classes(root: Path) -> list[str]:
    """The names of the classes: those in wnids.txt, or else all that the splits have, sorted."""
    listed = root / "wnids.txt"
    if not listed.is_file():
        folders = [folder for split in FOLDERS if (folder := split_folder(root, split))]
        return sorted({name for folder in folders for name in _class_names(folder)})
    classes = [word for line in read_lines(listed) for word in line.split()]
    if len(set(classes)) != len(classes):
        raise ZooError(f"{listed} lists a class twice")
    return sorted(classes)


def _class_names(folder: Path) -> list[str]:
    """The names of the classes of one split."""
    flat = flat_images(folder)
    return flat[1] if flat else [entry.name for entry in list_folders(folder)]


@register_dataset(
    DatasetInfo(
        name="imagenet",
        kind="images",
        num_classes=1000,
        sample_shape=(3, 224, 224),
        description="ImageNet (ILSVRC 2012) or any part of it, in train/ and val/ class folders",
        terms="non-commercial research and education only (image-net.org)",
        options=("size", "mean", "std"),
        folders=("imagenet", "imagenet224", "ILSVRC2012", "ILSVRC/Data/CLS-LOC", "tiny-imagenet-200"),
        contents=("train", "val", "ILSVRC2012_*"),
        train_samples=1281167,
        resize="auto",
        difficulty=6,
    )
)
class ImageNet(ImageFiles):
    """Images float32 (3, size, size) from class folders, normalised as (x / 255 - mean) / std; "test" or "val" is val/.

    root  the folder with train/ and val/, or one that contains it under a usual name (`DatasetInfo.folders`)

    Other arguments as of `ImageFiles`. Raises ZooError for a missing or empty folder and a class that is not listed,
    and as `ImageFiles`.
    """

    NAME: ClassVar[str] = "imagenet"

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        size: int = 224,
        resize: Resize = "auto",
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        classes: Sequence[str] | None = None,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        root, names = Path(root).expanduser(), dataset_info(self.NAME).folders
        split = "test" if split == "val" else check_split(split)
        root = find_folder(root, names, lambda at: any(split_folder(at, name) for name in FOLDERS)) or root
        folder = split_folder(root, split)
        if folder is None:
            packed = f"; or: {UNPACK}" if next(root.glob("ILSVRC2012_*.tar"), None) else ""
            raise ZooError(
                f"{root / FOLDERS[split][0]} is no folder: looked for train/ and val/ with one folder of images per "
                f"class, there and in {', '.join(names)}; give the folder that holds them with {DATA_DIR}{packed}"
            )
        class_names = find_classes(root) if classes is None else list(classes)
        samples = _list_images(folder, class_names, strict=classes is None)
        super().__init__(samples, class_names, size=size, resize=resize, mean=mean, std=std, augment=augment, seed=seed)


@register_dataset(
    DatasetInfo(
        name="imagenette",
        kind="images",
        num_classes=10,
        classes=(  # ImageNet's names of the ten folders
            "tench", "English springer", "cassette player", "chain saw", "church", "French horn", "garbage truck",
            "gas pump", "golf ball", "parachute",
        ),
        sample_shape=(3, 128, 128),
        description="Imagenette: 10 easily told classes of ImageNet, in train/ and val/ class folders",
        terms="images under ImageNet's terms: non-commercial research and education only",
        options=("size", "mean", "std"),
        folders=("imagenette128", "imagenette"),
        contents=("train", "val"),
        train_samples=9469,
        resize="size",
        difficulty=3,
    )
)
class Imagenette(ImageNet):
    """Ten easily told classes of ImageNet, in the same folders, stored with a shorter side of 128 or 160 pixels.

    A test image is resized so that its shorter side is `size`, because it is stored little larger than that.
    """

    NAME: ClassVar[str] = "imagenette"

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        size: int = 128,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        augment: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(root, split, size=size, resize=size, mean=mean, std=std, augment=augment, seed=seed)


def _list_images(folder: Path, classes: list[str], *, strict: bool) -> list[tuple[Path, int]]:
    """(path, label) of every image, sorted by class and file name."""
    label = {name: index for index, name in enumerate(classes)}
    unknown = [name for name in _class_names(folder) if name not in label]
    if strict and unknown:
        raise ZooError(f"{folder / unknown[0]} is a class that wnids.txt does not list; add it there or move it away")
    if flat := flat_images(folder):
        samples = sorted(((path, label[name]) for path, name in flat[0] if name in label), key=lambda sample: sample[1])
    else:
        samples = [(path, label[name]) for name in classes for path in list_files(folder / name, IMAGE_SUFFIXES)]
    if not samples:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ZooError(f"{folder} holds no image ({suffixes}) in a folder of one of its classes")
    return samples
