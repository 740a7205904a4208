"""ModelNet40 and ModelNet10, from HDF5 clouds or from OFF meshes, with one interface.

Source: Wu et al., 3D ShapeNets, CVPR 2015. Layouts, told apart by what the folder holds:
* "hdf5", Stanford's `modelnet40_ply_hdf5_2048`: train_files.txt and test_files.txt list HDF5 files with `data`
  float32 (n, P, 3) and `label` uint8 (n, 1); shape_names.txt lists the classes.
* "off", Princeton's archives: `ModelNet10/chair/train/chair_0001.off`.

Both give clouds centred in the unit sphere. Axes stay as stored, so that published weights see what they were
trained on: z is up in Princeton's meshes, y in Stanford's clouds. Train and test on the same layout.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from zoo.datasets import download, point_transforms
from zoo.datasets.base import LabelledDataset
from zoo.datasets.loading import DATA_DIR, find_folder
from zoo.datasets.meshes import sample_mesh
from zoo.datasets.registry import DatasetInfo, Source, check_split, dataset_info, register_dataset
from zoo.errors import ZooError
from zoo.utils import new_file

STORED = 2048  # points sampled from a mesh, as many as Stanford's clouds hold

MODELNET10 = (
    "bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet",
)  # fmt: skip
MODELNET40 = (
    "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone",
    "cup", "curtain", "desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard", "lamp",
    "laptop", "mantel", "monitor", "night_stand", "person", "piano", "plant", "radio", "range_hood", "sink",
    "sofa", "stairs", "stool", "table", "tent", "toilet", "tv_stand", "vase", "wardrobe", "xbox",
)  # fmt: skip


def layout(folder: Path) -> str | None:
    """ "hdf5", "off", or None if the folder is neither."""
    if (folder / "shape_names.txt").is_file():
        return "hdf5"
    if next(folder.glob("*/train/*.off"), None) or next(folder.glob("*/test/*.off"), None):
        return "off"
    return None


def find(root: Path, info: DatasetInfo) -> tuple[Path, str]:
    """The data's folder, `root` itself or one of the usual names in it, and its layout."""
    folder = find_folder(root, info.folders, lambda folder: layout(folder) is not None)
    if folder is not None and (kind := layout(folder)) is not None:
        return folder, kind
    state = "is no folder" if not root.is_dir() else "holds no ModelNet"
    raise ZooError(
        f"{root} {state}: looked for shape_names.txt with HDF5 clouds, or OFF meshes as chair/train/chair_0001.off, "
        f"there and in {', '.join(info.folders)}; give the folder that has one with {DATA_DIR}, or let the owners' "
        f"archive be fetched with --download (download=True)"
    )


def read_hdf5(folder: Path, split: str, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Clouds float32 (n, 3, P), normalised, and labels int64 (n,) counted in `classes`; others are left out."""
    names = _lines(folder / "shape_names.txt")
    missing = sorted(set(classes) - set(names))
    if missing:
        raise ZooError(f"{folder}/shape_names.txt lists {len(names)} classes, without {', '.join(missing[:3])}")
    place = torch.tensor([classes.index(name) if name in classes else -1 for name in names])
    found = []
    for line in _lines(folder / f"{split}_files.txt"):
        path = folder / Path(line).name  # the lists name the authors' own folders
        data, label = _read_file(path)
        for wrong in label[(label < 0) | (label >= len(names))][:1]:
            raise ZooError(f"{path} has label {wrong}, but shape_names.txt lists {len(names)} classes")
        for row in (~np.isfinite(data).all(axis=(1, 2))).nonzero()[0][:1]:
            raise ZooError(f"{path}, row {row}, holds NaN or infinite coordinates; remove or repair it")
        target = place[torch.from_numpy(label.astype(np.int64))]
        wanted = target >= 0
        found.append((point_transforms.normalise(torch.from_numpy(data)[wanted].mT.contiguous()), target[wanted]))
    if not found:
        raise ZooError(f"{folder}/{split}_files.txt lists no file")
    sizes = sorted({cloud.shape[2] for cloud, _ in found})
    if len(sizes) > 1:
        raise ZooError(f"the {split} files of {folder} hold clouds of {sizes} points; one number was expected")
    return torch.cat([cloud for cloud, _ in found]), torch.cat([target for _, target in found])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise ZooError(f"cannot read {path}: {error.strerror or error}") from error


def _read_file(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """`data` float32 (n, P, 3) and `label` (n,) of one HDF5 file."""
    try:
        with h5py.File(path, "r") as file:
            data = np.asarray(file["data"][()], dtype=np.float32)
            label = np.asarray(file["label"][()]).reshape(-1)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ZooError(f"cannot read {path} as HDF5 with data and label: {error}") from error
    if data.ndim != 3 or data.shape[2] != 3 or len(label) != len(data):
        raise ZooError(f"{path} has data {data.shape} and label {label.shape}; expected (n, P, 3) and (n, 1)")
    return data, label


def read_off(folder: Path, split: str, classes: tuple[str, ...], *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """As `read_hdf5`, from meshes: STORED points on each surface. The clouds of a class are kept beside its meshes."""
    found, labels = [], []
    quiet = not sys.stderr.isatty()
    for label, name in enumerate(tqdm(classes, desc=f"sampling {split} meshes", disable=quiet)):
        meshes = sorted((folder / name / split).glob("*.off"))
        if not meshes:
            raise ZooError(f"{folder} has no meshes {name}/{split}/*.off; {len(classes)} class folders were expected")
        found.append(_sample_class(meshes, seed))
        labels += [label] * len(meshes)
    return torch.cat(found), torch.tensor(labels)


def _sample_class(meshes: list[Path], seed: int) -> Tensor:
    """Clouds of one class and split: (n, 3, STORED), read from the cache if its meshes are the same files."""
    state = [(mesh.name, mesh.stat().st_size, mesh.stat().st_mtime_ns) for mesh in meshes]
    digest = hashlib.sha256(repr((state, seed, STORED)).encode()).hexdigest()[:16]
    cache = meshes[0].parent / f".zoo-{digest}.npy"
    shape = (len(meshes), 3, STORED)
    if cache.is_file():
        try:
            kept = np.load(cache, allow_pickle=False)
            if kept.shape == shape and kept.dtype == np.float32:
                return torch.from_numpy(kept)
        except (OSError, ValueError, EOFError):
            pass  # a damaged cache is made again
    sampled = torch.stack([sample_mesh(mesh, STORED, name=mesh.name, seed=seed) for mesh in meshes])
    try:
        with new_file(cache) as file:
            np.save(file, sampled.numpy())
    except ZooError:
        pass  # a folder that cannot be written: the clouds stay in memory only
    return sampled


def fetch(info: DatasetInfo, root: Path, kind: str | None, *, mirror: str | None, sha256: str | None) -> None:
    """Downloads the data set's archive, shows its terms, unpacks it into `root` and removes the archive."""
    sources = [source for source in info.sources if kind in (None, source.layout)]
    if not sources:
        raise ZooError(
            f"{info.name} is not published in the layout {kind!r}; its owners' are "
            f"{', '.join(source.layout for source in info.sources)}"
        )
    source = sources[0]
    url = download.mirrored(source.url, mirror)
    print(f"{info.name}: {info.terms}. Downloading {url}", file=sys.stderr)
    expected = sha256 or source.sha256
    archive = root / source.url.rsplit("/", 1)[-1]
    found = download.download(url, archive, sha256=expected)
    if expected is None:
        print(f"{archive.name}: no checksum is on record to compare with; its SHA-256 is {found}", file=sys.stderr)
    try:
        download.unzip(archive, root)
    finally:
        archive.unlink(missing_ok=True)


class _ModelNet(LabelledDataset):
    """Clouds (3, points) of one split; see `ModelNet40`."""

    NAME: ClassVar[str]
    CLASSES: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        root: str | Path,
        split: str,
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
        if download and find_folder(root, info.folders, lambda folder: layout(folder) is not None) is None:
            fetch(info, root, source, mirror=mirror, sha256=sha256)
        folder, kind = find(root, info)
        if kind == "hdf5":
            self.clouds, self.labels = read_hdf5(folder, split, self.CLASSES)
        else:
            self.clouds, self.labels = read_off(folder, split, self.CLASSES, seed=sampling_seed)
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
        sample_shape=(3, 1024),
        description="12311 CAD models in 40 classes (9843 train, 2468 test); HDF5 clouds or OFF meshes",
        terms="provided for the convenience of academic research only (Princeton and Stanford)",
        options=("points",),
        folders=("modelnet40_ply_hdf5_2048", "ModelNet40"),
        sources=(
            Source("hdf5", "https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip"),
            Source("off", "http://modelnet.cs.princeton.edu/ModelNet40.zip"),
        ),
        difficulty=5,
    )
)
class ModelNet40(_ModelNet):
    """12311 CAD models in 40 classes: 9843 to train, 2468 to test, as clouds (3, points).

    `root` is the folder of either layout, or the one that contains it. A test sample is the first `points`
    stored points; with `augment` it is a random subset, scaled and moved as the DGCNN authors do.
    `download` fetches the archive of the layout `source` ("hdf5" or "off"; default: the first published one)
    into `root` if nothing is there, from `mirror` or the environment's ZOO_DATA_MIRROR if set, and compares
    `sha256` if given. Raises ZooError for a missing or wrong folder, too many points, and NaN in the data.
    """

    NAME = "modelnet40"
    CLASSES = MODELNET40


@register_dataset(
    DatasetInfo(
        name="modelnet10",
        kind="points",
        num_classes=10,
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
        ),
        sources=(Source("off", "http://3dvision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip"),),
        difficulty=4,
    )
)
class ModelNet10(_ModelNet):
    """4899 CAD models in 10 classes: 3991 to train, 908 to test. As `ModelNet40`, whose folders it reads too."""

    NAME = "modelnet10"
    CLASSES = MODELNET10
