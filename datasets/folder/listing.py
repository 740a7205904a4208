"""Which files of a folder belong to which class and split. Imports no torch.

Three layouts are known, of images and of shapes alike:

    train/chair/a.off  test/chair/b.off    splits first; val/ or valid/ where there is no test/
    chair/train/a.off  chair/test/b.off    classes first, as in ModelNet
    chair/a.off        chair/b.off         classes only

Where there is no folder of test samples, a fifth of the files of every class is held out as such. A file's path decides
whether it is, so that the parts stay the same, and almost the same where files are added.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.datasets.files import IMAGE_SUFFIXES, list_files, list_folders
from zoo.datasets.loading import DATA_DIR
from zoo.datasets.registry import Kind
from zoo.errors import ZooError
from zoo.utils import derive_seed

MESH_SUFFIXES = {".off", ".obj", ".stl", ".ply"}  # a .ply file may hold a cloud too
TABLE_SUFFIXES = {".xyz", ".npy", ".npz"}
SHAPE_SUFFIXES = {*MESH_SUFFIXES, *TABLE_SUFFIXES, ".txt"}
HELD_OUT = 0.2

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation")  # the first that is there
_LAYOUTS = "train/CLASS/FILE with test/ or val/ beside it, CLASS/train/FILE, or CLASS/FILE"

_Files = list[tuple[Path, str]]  # paths with the names of their classes


@dataclass(frozen=True)
class Listing:
    """The labelled files of a folder.

    root     the folder
    kind     whether they are images or shapes ("points")
    classes  the names of the class folders that hold any, sorted
    train    path and label of every file to train on, sorted by class and path
    test     the same of those to count right answers on
    """

    root: Path
    kind: Kind
    classes: tuple[str, ...]
    train: list[tuple[Path, int]]
    test: list[tuple[Path, int]]

    def digest(self) -> str:
        """A SHA-256 of the names and sizes of all files, which tells two folders apart."""
        lines = [
            f"{split} {self.classes[label]} {_inside(self.root, path)} {path.stat().st_size}"
            for split, files in (("train", self.train), ("test", self.test))
            for path, label in files
        ]
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def check_file(path: Path, sample_shape: Sequence[int]) -> None:
    """Raise ZooError unless there is such a file, of the kind that samples of this shape are read from."""
    if not path.exists():
        raise ZooError(f"there is no file {path}")
    if path.is_dir():
        raise ZooError(f"{path} is a folder: give the files in it")
    wanted, suffixes = ("shapes", SHAPE_SUFFIXES) if len(sample_shape) == 2 else ("images", IMAGE_SUFFIXES)
    if path.suffix.lower() not in suffixes:
        raise ZooError(f"{path} cannot be read: the network takes {wanted} ({', '.join(sorted(suffixes))})")


def user_folder_listing(dataset: str, data_dir: str | Path | None) -> Listing:
    """The files of the folder that a command names for a data set of this kind; ZooError if it names none."""
    if data_dir is None:
        raise ZooError(f"the data set {dataset!r} is a folder of your own: give it with {DATA_DIR}")
    return list_folder(Path(data_dir).expanduser())


def list_folder(root: Path) -> Listing:
    """Find the files of a folder.

    Raises ZooError for a folder that is not there, holds no class folders, one class only, or images and shapes.
    """
    if not root.is_dir():
        raise ZooError(f"{root} is no folder; give the one that holds your data with {DATA_DIR}")
    train, test = _by_split(root)
    if train and not test:
        train, test = _hold_out(root, train)
    kind, suffixes = _kind(root, [path for path, _ in (*train, *test)])
    folders = {name for _, name in (*train, *test)}
    train, test = ([(path, name) for path, name in files if path.suffix.lower() in suffixes] for files in (train, test))
    classes = tuple(sorted({name for _, name in (*train, *test)}))
    if len(classes) < 2 and (others := sorted(folders.difference(classes))):
        raise ZooError(
            f"{root} mixes images and shapes: there are shapes in {classes[0]} and none in {', '.join(others)}; give a "
            "folder of one kind"
        )
    if len(classes) < 2:
        raise ZooError(
            f"{root} has one class folder only, {classes[0]}: a classifier needs two or more "
            f"(read are {_LAYOUTS}; give the folder that holds the classes with {DATA_DIR})"
        )
    label = {name: index for index, name in enumerate(classes)}
    numbered = [[(path, label[name]) for path, name in files] for files in (train, test)]
    return Listing(root, kind, classes, numbered[0], numbered[1])


def _by_split(root: Path) -> tuple[_Files, _Files]:
    """The files to train on and to test on, by the first layout that fits."""
    subs = list_folders(root)
    train, test = _named(subs, _TRAIN), _named(subs, _TEST)
    if any(split is not None and list_folders(split) for split in (train, test)):
        return _files_of(list_folders(train) if train else []), _files_of(list_folders(test) if test else [])
    inner = {folder: list_folders(folder) for folder in subs}
    if any(_named(inside, _TRAIN) for inside in inner.values()):
        return tuple(  # type: ignore[return-value]  # two of them
            [(path, folder.name) for folder in subs if (at := _named(inner[folder], names)) for path in _all(at)]
            for names in (_TRAIN, _TEST)
        )
    return _files_of(subs), []


def _named(folders: list[Path], names: tuple[str, ...]) -> Path | None:
    by_name = {folder.name.lower(): folder for folder in folders}
    return next((by_name[name] for name in names if name in by_name), None)


def _all(folder: Path) -> list[Path]:
    return list_files(folder, IMAGE_SUFFIXES | SHAPE_SUFFIXES)


def _files_of(classes: list[Path]) -> _Files:
    return [(path, folder.name) for folder in classes for path in _all(folder)]


def _hold_out(root: Path, files: _Files) -> tuple[_Files, _Files]:
    """Files to train on and files held out, HELD_OUT of every class but for classes of a single file."""
    held: set[Path] = set()
    by_class: dict[str, list[Path]] = {}
    for path, name in files:
        by_class.setdefault(name, []).append(path)
    for paths in by_class.values():
        paths.sort(key=lambda path: derive_seed("held out", _inside(root, path)))
        held.update(paths[: max(1, round(HELD_OUT * len(paths))) if len(paths) > 1 else 0])
    return [file for file in files if file[0] not in held], [file for file in files if file[0] in held]


def _inside(root: Path, path: Path) -> str:
    """The path of a file within the folder, alike on all systems (`relative_to` would take half of the time)."""
    return str(path)[len(str(root)) :].replace(os.sep, "/").lstrip("/")


def _kind(root: Path, paths: list[Path]) -> tuple[Kind, set[str]]:
    """Whether the files are images or shapes, and the suffixes that count.

    Images beside meshes are their textures, text beside images is about them.
    """
    counts = Counter(path.suffix.lower() for path in paths)
    images, meshes, tables = (
        sum(counts[suffix] for suffix in suffixes) for suffixes in (IMAGE_SUFFIXES, MESH_SUFFIXES, TABLE_SUFFIXES)
    )
    if images and tables and not meshes:
        raise ZooError(
            f"{root} holds images ({images}) and clouds ({tables}): give a folder of one kind, for instance without "
            f"the {' and '.join(sorted(TABLE_SUFFIXES & counts.keys()))} files"
        )
    if meshes or tables or (counts[".txt"] and not images):
        return "points", SHAPE_SUFFIXES
    if images:
        return "images", IMAGE_SUFFIXES
    raise ZooError(
        f"{root} holds no class folders with images ({', '.join(sorted(IMAGE_SUFFIXES))}) or shapes "
        f"({', '.join(sorted(SHAPE_SUFFIXES))}); read are {_LAYOUTS}"
    )
