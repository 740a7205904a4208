"""What data sets there are: one dict of frozen records, read without torch.

`num_classes` and the sample shape are those of the complete data set in its default form; a data set
that was loaded knows its own (`LabelledDataset.num_classes`, `.sample_shape`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.errors import ZooError, suggest

Kind = Literal["points", "images"]
SPLITS = ("train", "test")
PRUNING_SAMPLES: dict[Kind, int] = {"points": 128, "images": 256}  # that a network is pruned on unless said otherwise


@dataclass(frozen=True)
class Source:
    """One archive to download. No checksum on record means that its owner published none."""

    layout: str
    url: str
    sha256: str | None = None


@dataclass(frozen=True)
class Record:
    """One data set.

    terms          the owner's terms of use
    weights_terms  terms of weights trained on it; None: those of the data
    sample_shape   (3, N) for clouds and (3, H, W) for images, in the default form
    title          how it is called where its name would claim too much; None: its name
    difficulty     an entry's name without a data set means the entry on the most difficult one that the zoo has
    """

    name: str
    num_classes: int | None
    kind: Kind
    what: str
    terms: str
    sample_shape: tuple[int, ...]
    title: str | None = None
    difficulty: int = 0
    weights_terms: str | None = None
    folders: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()

    @property
    def points(self) -> int | None:
        """N of the default cloud; None for images."""
        return self.sample_shape[1] if self.kind == "points" else None

    @property
    def size(self) -> int | None:
        """The side of the default image; None for clouds."""
        return self.sample_shape[1] if self.kind == "images" else None


MODELNET_TERMS = "provided for the convenience of academic research only (Princeton and Stanford)"

_RECORDS: dict[str, Record] = {}


def _register(record: Record) -> None:
    if record.name in _RECORDS:
        raise ValueError(f"data set {record.name} is listed twice")
    _RECORDS[record.name] = record


_register(
    Record(
        name="shapes",
        num_classes=20,
        kind="points",
        what="20 classes of solids, made from a seed: noise, partial views, random proportions; no download",
        terms="generated (no third-party data)",
        weights_terms="Apache-2.0",
        sample_shape=(3, 512),
        difficulty=1,
    )
)
_register(
    Record(
        name="modelnet40",
        num_classes=40,
        kind="points",
        what="12311 CAD models in 40 classes (9843 train, 2468 test); HDF5 clouds or OFF meshes",
        terms=MODELNET_TERMS,
        sample_shape=(3, 1024),
        difficulty=5,
        folders=("modelnet40_ply_hdf5_2048", "ModelNet40"),
        sources=(
            Source("hdf5", "https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip"),
            Source("off", "http://modelnet.cs.princeton.edu/ModelNet40.zip"),
        ),
    )
)
_register(
    Record(
        name="modelnet10",
        num_classes=10,
        kind="points",
        what="4899 CAD models in 10 classes (3991 train, 908 test); HDF5 clouds or OFF meshes",
        terms=MODELNET_TERMS,
        sample_shape=(3, 1024),
        difficulty=4,
        folders=(
            "modelnet10_ply_hdf5_1024",
            "modelnet10_ply_hdf5_2048",
            "ModelNet10",
            "modelnet40_ply_hdf5_2048",
            "ModelNet40",
        ),
        sources=(Source("off", "http://3dvision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip"),),
    )
)
_register(
    Record(
        name="imagenet",
        num_classes=1000,
        kind="images",
        what="ImageNet (ILSVRC 2012) or any part of it, in train/ and val/ class folders",
        terms="non-commercial research and education only (image-net.org)",
        sample_shape=(3, 224, 224),
        difficulty=6,
        folders=("imagenet", "imagenet224"),
    )
)
_register(
    Record(
        name="imagenette",
        num_classes=10,
        kind="images",
        what="Imagenette: 10 easily told classes of ImageNet, in train/ and val/ class folders",
        terms="images under ImageNet's terms: non-commercial research and education only",
        sample_shape=(3, 128, 128),
        difficulty=3,
        folders=("imagenette128", "imagenette"),
    )
)
_register(
    Record(
        name="cifar10",
        num_classes=10,
        kind="images",
        what="CIFAR-10 (JPEG): 50000 + 10000 images of 32 x 32, re-encoded as JPEG, in train.h5 and test.h5",
        terms="CIFAR-10 (Krizhevsky 2009), published for research; its authors state no licence",
        sample_shape=(3, 32, 32),
        title="CIFAR-10 (JPEG)",  # numbers on re-encoded images are not those of CIFAR-10
        difficulty=2,
        folders=("cifar10_jpeg",),
    )
)


def list_datasets() -> list[str]:
    """The names that `load` takes, sorted."""
    return sorted(_RECORDS)


def record(name: str) -> Record:
    """The record of one data set; an unknown name is a ZooError that suggests near ones."""
    if name not in _RECORDS:
        raise ZooError(f"no data set is called {name!r}; {suggest(name, _RECORDS)}")
    return _RECORDS[name]


def datasets_by_difficulty() -> list[str]:
    """The names that `load` takes, the most difficult data set first."""
    return sorted(_RECORDS, key=lambda name: (-_RECORDS[name].difficulty, name))


def dataset_title(name: str) -> str:
    """How a text for people calls a data set, one of a user's own included."""
    return (_RECORDS[name].title if name in _RECORDS else None) or name


def check_split(split: str) -> str:
    """`split` itself if it is "train" or "test"."""
    if split not in SPLITS:
        raise ZooError(f'the split is "train" or "test", not {split!r}')
    return split
