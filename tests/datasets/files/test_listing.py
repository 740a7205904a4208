"""What file managers and archives leave in a folder is skipped, in every kind of data folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from zoo.datasets.files import is_junk, list_files, list_folders
from zoo.datasets.imagenet import ImageNet
from zoo.datasets.modelnet import MODELNET10, ModelNet10

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "
TETRAHEDRON = "4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"


def litter(folder: Path, suffix: str) -> None:
    """What macOS and Windows leave in `folder` and below it."""
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in (f"._0{suffix}", ".DS_Store", "Thumbs.db", "desktop.ini"):
            (place / name).write_bytes(APPLE_DOUBLE)
        for name in ("__MACOSX", "@eaDir"):
            (place / name).mkdir()
            (place / name / f"0{suffix}").write_bytes(APPLE_DOUBLE)


def test_names_of_junk() -> None:
    names = ("._a.off", ".DS_Store", "Thumbs.db", "thumbs.db", "__MACOSX", ".hidden")
    assert all(is_junk(name) for name in names)
    assert not any(is_junk(name) for name in ("a.off", "thumbs", "MACOSX", "_a.off"))


def test_files_and_folders_of_data(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/c/1.PNG", "a/3.png", "a/3.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    litter(tmp_path, ".png")
    assert [path.name for path in list_folders(tmp_path)] == ["a", "b"]
    assert list_files(tmp_path, {".png"}) == [tmp_path / name for name in ("a/3.png", "b/2.png", "b/c/1.PNG")]
    assert list_files(tmp_path / "none", {".png"}) == list_folders(tmp_path / "none") == []


def test_links_are_followed_once(tmp_path: Path) -> None:
    """A link to the folder itself would be 41 paths before the system refuses the next, and two of them 2^40."""
    root = tmp_path / "root"
    for name in ("root/m/1.png", "root/2.png", "elsewhere/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name, to in (("a", "m"), ("b", "."), ("d", "../elsewhere"), ("e", "../elsewhere")):
        (root / name).symlink_to(to, target_is_directory=True)
    assert list_files(root, {".png"}) == [root / name for name in ("2.png", "d/3.png", "m/1.png")]


def test_modelnet(tmp_path: Path) -> None:
    root = tmp_path / "ModelNet10"
    for name in MODELNET10:
        for split in ("train", "test"):
            (root / name / split).mkdir(parents=True)
            (root / name / split / f"{name}_0001.off").write_text("OFF\n" + TETRAHEDRON)
    litter(tmp_path, ".off")
    assert len(ModelNet10(tmp_path, "test")) == 10


def test_images(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / name).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / "0.png")
    litter(tmp_path, ".png")
    data = ImageNet(tmp_path, "train", size=8)
    assert data.classes == ["a", "b"]
    assert [label for _, label in data] == [0, 1]
