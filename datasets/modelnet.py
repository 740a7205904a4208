"""ModelNet40 and ModelNet10 (Wu et al. 2015, 3D ShapeNets), from HDF5 or text clouds, or from OFF meshes.

Three layouts of the folder are recognised by their files:

* "hdf5", Stanford's `modelnet40_ply_hdf5_2048`: train_files.txt and test_files.txt list HDF5 files with `data`
  float32 (n, P, 3) and `label` uint8 (n, 1); shape_names.txt lists the classes.
* "text", `modelnet40_normal_resampled` of PointNet++: modelnet40_train.txt and modelnet40_test.txt (modelnet10_ too)
  list clouds as chair_0001, which lie in chair/chair_0001.txt, a line for each point: x, y, z and a normal.
* "off", Princeton's archives: meshes as `ModelNet10/chair/train/chair_0001.off`; torch_geometric's are in `raw`.

All give clouds that are centred and scaled to the unit sphere. The axes are those of the files, as published weights
expect: the vertical axis is z in Princeton's meshes and y in Stanford's clouds, so training and test need one layout.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PureWindowsPath
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from zoo.datasets import point_transforms
from zoo.datasets.base import LabelledDataset
from zoo.datasets.download import fetch
from zoo.datasets.files import (
    LARGEST,
    class_numbers,
    list_files,
    list_folders,
    listed_file,
    open_hdf5,
    read_lines,
    read_text_cloud,
)
from zoo.datasets.loading import DATA_DIR, find_folder
from zoo.datasets.meshes import kept_clouds, sample_meshes
from zoo.datasets.registry import DatasetInfo, Source, check_split, dataset_info, register_dataset
from zoo.errors import ZooError, excerpt
from zoo.utils import progress_bar, say

STORED_POINTS = 2048  # sampled from a mesh, and read of a text cloud (the first of 10000): as many as Stanford's have


def layout(folder: Path) -> str | None:
    """The layout of a folder, "hdf5", "text" or "off"; None if it has none of them."""
    if (folder / "shape_names.txt").is_file():
        return "hdf5"
    if next(folder.glob("modelnet[14]0_t*.txt"), None):
        return "text"
    if any(_meshes(name, split) for name in list_folders(folder) for split in ("train", "test")):
        return "off"
    return None


def _meshes(folder: Path, split: str) -> list[Path]:
    """The meshes of one class and split."""
    return list_files(folder / split, {".off"})


def search(root: Path, info: DatasetInfo) -> tuple[Path, str] | None:
    """The folder of the data, `root` or a sub-folder of it with a usual name, and its layout; None if there is none."""
    raw = ["raw", *(f"{name}/raw" for name in info.folders)]  # where torch_geometric unpacks Princeton's archives
    folder = find_folder(root, [*info.folders, *raw], lambda folder: layout(folder) is not None)
    kind = layout(folder) if folder else None
    return (folder, kind) if folder and kind else None


def find(root: Path, info: DatasetInfo) -> tuple[Path, str]:
    """As `search`; a ZooError if there is none."""
    if found := search(root, info):
        return found
    state = "is no folder" if not root.is_dir() else "holds no ModelNet"
    raise ZooError(
        f"{root} {state}: looked for shape_names.txt with HDF5 clouds, modelnet40_train.txt with text clouds, or OFF "
        f"meshes as chair/train/chair_0001.off, there and in {', '.join(info.folders)}, raw; give the folder that has "
        f"one with {DATA_DIR}, or let the owners' archive be fetched with `download=True`"
    )


def read_hdf5(folder: Path, split: str, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Clouds float32 (n, 3, P), normalised, and labels int64 (n,), indices into `classes`.

    Clouds of other classes are left out: ModelNet10 is read from the files of ModelNet40 too.
    """
    names = read_lines(folder / "shape_names.txt")
    missing = sorted(set(classes) - set(names))
    if missing:
        raise ZooError(f"{folder}/shape_names.txt lists {len(names)} classes, without {', '.join(missing[:3])}")
    label_of = torch.tensor([classes.index(name) if name in classes else -1 for name in names])
    files = []
    for path in _listed(folder, split):
        data, label = _read_file(path, len(names))
        if not (fits := (np.abs(data) <= LARGEST).all(axis=(1, 2))).all():
            raise ZooError(
                f"{path}, row {fits.argmin()}, holds NaN, infinite coordinates, or some beyond {LARGEST:g}; remove or "
                f"repair it"
            )
        target = label_of[torch.from_numpy(label)]
        in_classes = target >= 0
        clouds = point_transforms.normalise(torch.from_numpy(data)[in_classes].mT.contiguous())
        files.append((clouds, target[in_classes]))
    if not files:
        raise ZooError(f"{folder}/{split}_files.txt lists no file")
    sizes = sorted({cloud.shape[2] for cloud, _ in files})
    if len(sizes) > 1:
        raise ZooError(f"the {split} files of {folder} hold clouds of {sizes} points; one number was expected")
    return torch.cat([cloud for cloud, _ in files]), torch.cat([target for _, target in files])


def _listed(folder: Path, split: str) -> list[Path]:
    """The HDF5 files of a split. Lines that name one file again would multiply the memory that it takes."""
    paths = [listed_file(folder, line) for line in read_lines(folder / f"{split}_files.txt")]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ZooError(f"{folder}/{split}_files.txt lists {twice.name} more than once")
    return paths


def _read_file(path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """`data` float32 (n, P, 3) and `label` int64 (n,) of one HDF5 file."""
    with open_hdf5(path, f"cannot read {path} as HDF5 with data and label") as file:
        data, stored = file.array("data"), file.array("label")
    label = class_numbers(stored, classes, str(path), "shape_names.txt lists")
    if data.ndim != 3 or data.shape[1] == 0 or data.shape[2] != 3 or len(label) != len(data):
        raise ZooError(f"{path} has data {data.shape} and label {label.shape}; expected (n, P, 3) and (n, 1)")
    with np.errstate(over="ignore"):  # infinite then, which is an error with the row
        return data.astype(np.float32), label


def read_text(folder: Path, split: str, info: DatasetInfo, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """As `read_hdf5`, from text clouds: the first STORED_POINTS points of each."""
    lists = [folder / f"{name}_{split}.txt" for name in (info.name, "modelnet40")]
    listed = next((path for path in lists if path.is_file()), lists[0])
    samples: dict[str, list[Path]] = {name: [] for name in classes}
    for sample in read_lines(listed):
        name = sample.rpartition("_")[0]  # night_stand_0001 is a night_stand
        if name in samples:
            if PureWindowsPath(sample).name != sample:
                raise ZooError(f"{listed} holds {excerpt(sample)}; names as {name}_0001 were expected")
            samples[name].append(folder / name / f"{sample}.txt")
    samples = {name: paths for name, paths in samples.items() if paths}
    _check_complete(listed, classes, samples)
    first = next(iter(samples.values()))[0]
    points = len(read_text_cloud(first, STORED_POINTS))

    def read(path: Path) -> Tensor:
        cloud = read_text_cloud(path, STORED_POINTS)
        if len(cloud) != points:
            raise ZooError(f"{path} holds {len(cloud)} points, {first} holds {points}; one number was expected")
        return point_transforms.normalise(torch.from_numpy(cloud.T.astype(np.float32)))

    progress = progress_bar(samples.values(), f"reading {split} clouds", lines=False)
    clouds = torch.cat([kept_clouds(paths, points, read) for paths in progress])
    return clouds, torch.tensor([classes.index(name) for name, paths in samples.items() for _ in paths])


def _check_complete(source: Path, classes: tuple[str, ...], found: Collection[str]) -> None:
    """Say on stderr that classes are missing, since a part of the data is read too; a ZooError if all are."""
    missing = [name for name in classes if name not in found]
    if len(missing) == len(classes):
        raise ZooError(f"{source} has none of the {len(classes)} classes {', '.join(missing[:3])}, ...")
    if missing:
        names = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        say(f"{source} has {len(classes) - len(missing)} of {len(classes)} classes, without {names}")


def read_off(folder: Path, split: str, classes: tuple[str, ...], *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """As `read_hdf5`, from meshes: STORED_POINTS points are sampled on the surface of each."""
    _check_complete(folder, classes, {entry.name for entry in list_folders(folder)})
    clouds, labels = [], []
    for label, name in enumerate(progress_bar(classes, f"sampling {split} meshes", lines=False)):
        if not (folder / name).is_dir():
            continue
        meshes = _meshes(folder / name, split)
        if not meshes:
            raise ZooError(f"{folder} has no meshes {name}/{split}/*.off; {len(classes)} class folders were expected")
        clouds.append(sample_meshes(meshes, STORED_POINTS, seed=seed))
        labels += [label] * len(meshes)
    return torch.cat(clouds), torch.tensor(labels)


class _ModelNet(LabelledDataset):
    """One split of ModelNet; arguments as in `ModelNet40`."""

    NAME: ClassVar[str]
    CLASSES: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        points: int = 1024,
        augment: bool = False,
        seed: int = 0,
        sampling_seed: int = 0,
        download: bool = False,
        source: str | None = None,
        mirror: str | None = None,
        sha256: str | None = None,
    ) -> None:
        check_split(split)
        info, root = dataset_info(self.NAME), Path(root).expanduser()
        if download and search(root, info) is None:
            fetch(info, root, source, mirror=mirror, sha256=sha256)
        folder, kind = find(root, info)
        if kind == "hdf5":
            self.clouds, self.labels = read_hdf5(folder, split, self.CLASSES)
        elif kind == "text":
            self.clouds, self.labels = read_text(folder, split, info, self.CLASSES)
        else:
            self.clouds, self.labels = read_off(folder, split, self.CLASSES, seed=sampling_seed)
        if not len(self.clouds):
            raise ZooError(f"the {split} split in {folder} is empty; {len(self.CLASSES)} classes were expected")
        if not 1 <= points <= self.clouds.shape[2]:
            raise ZooError(f"{points} points were asked, {folder} stores 1 to {self.clouds.shape[2]} for each shape")
        super().__init__(self.CLASSES, (3, points), augment=augment, seed=seed)
        self.points = points

    def __len__(self) -> int:
        return len(self.clouds)

    def label(self, index: int) -> int:
        return int(self.labels[index])

    def load_sample(self, index: int) -> Tensor:
        return self.clouds[index, :, : self.points].clone()

    def augmented(self, index: int, generator: torch.Generator) -> Tensor:
        chosen = point_transforms.subsample(self.clouds[index], self.points, generator)
        return point_transforms.scale_and_translate(chosen, generator)


@register_dataset(
    DatasetInfo(
        name="modelnet40",
        kind="points",
        num_classes=40,
        classes=(
            "airplane",
            "bathtub",
            "bed",
            "bench",
            "bookshelf",
            "bottle",
            "bowl",
            "car",
            "chair",
            "cone",
            "cup",
            "curtain",
            "desk",
            "door",
            "dresser",
            "flower_pot",
            "glass_box",
            "guitar",
            "keyboard",
            "lamp",
            "laptop",
            "mantel",
            "monitor",
            "night_stand",
            "person",
            "piano",
            "plant",
            "radio",
            "range_hood",
            "sink",
            "sofa",
            "stairs",
            "stool",
            "table",
            "tent",
            "toilet",
            "tv_stand",
            "vase",
            "wardrobe",
            "xbox",
        ),
        sample_shape=(3, 1024),
        description="12311 CAD models in 40 classes (9843 train, 2468 test); HDF5 clouds or OFF meshes",
        terms="provided for the convenience of academic research only (Princeton and Stanford)",
        options=("points",),
        folders=("modelnet40_ply_hdf5_2048", "ModelNet40", "modelnet40_normal_resampled"),
        contents=("shape_names.txt", "modelnet[14]0_t*.txt", "*/train/*.off", "*/test/*.off", "*/*/*.OFF"),
        train_samples=9843,
        sources=(
            Source("hdf5", "https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip"),
            Source("off", "http://modelnet.cs.princeton.edu/ModelNet40.zip"),
        ),
        difficulty=5,
    )
)
class ModelNet40(_ModelNet):
    """12311 CAD models in 40 classes: 9843 to train, 2468 to test, as clouds (3, points).

    root           the folder of one of the layouts, or one that contains it under a usual name (`DatasetInfo.folders`)
    points         the size of a cloud: the first `points` stored points, or with `augment` a random subset, which is
                   scaled and translated as the DGCNN authors do
    sampling_seed  for sampling points on meshes
    download       whether to download the archive into `root` if the data is not there
    source         the layout to download, "hdf5" or "off" (default: the first published one)
    mirror         the address of a folder with the archive (default: the environment variable ZOO_DATA_MIRROR)
    sha256         the expected checksum of the archive

    Raises ZooError for a missing or wrong folder, too many points, and NaN in the data.
    """

    NAME = "modelnet40"
    CLASSES = dataset_info(NAME).classes


@register_dataset(
    DatasetInfo(
        name="modelnet10",
        kind="points",
        num_classes=10,
        classes=(
            "bathtub",
            "bed",
            "chair",
            "desk",
            "dresser",
            "monitor",
            "night_stand",
            "sofa",
            "table",
            "toilet",
        ),
        sample_shape=(3, 1024),
        description="4899 CAD models in 10 classes (3991 train, 908 test); HDF5 clouds or OFF meshes",
        terms="provided for the convenience of academic research only (Princeton and Stanford)",
        options=("points",),
        folders=(
            "modelnet10_ply_hdf5_1024",
            "modelnet10_ply_hdf5_2048",
            "ModelNet10",
            "modelnet40_ply_hdf5_2048",
            "ModelNet40",
            "modelnet40_normal_resampled",
        ),
        contents=("shape_names.txt", "modelnet[14]0_t*.txt", "*/train/*.off", "*/test/*.off", "*/*/*.OFF"),
        train_samples=3991,
        sources=(Source("off", "http://3dvision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip"),),
        difficulty=4,
    )
)
class ModelNet10(_ModelNet):
    """4899 CAD models in 10 classes: 3991 to train, 908 to test. It is also read from the folders of ModelNet40."""

    NAME = "modelnet10"
    CLASSES = dataset_info(NAME).classes


MODELNET40, MODELNET10 = ModelNet40.CLASSES, ModelNet10.CLASSES
