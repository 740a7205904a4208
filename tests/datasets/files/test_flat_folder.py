"""Tiny ImageNet and the flat validation folder of ILSVRC 2012, written here as they are published."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.datasets import load
from zoo.datasets.imagenet import ImageNet
from zoo.errors import ZooError

WNIDS = ["n01440764", "n01443537", "n02102040", "n03000684"]
LABELS = [3, 0, 0, 2, 1, 3]  # of the validation images, in the order of their numbers


def write(path: Path, level: int) -> None:
    """An image of one grey level, by which it is known again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(path, "png")


def read(root: Path, split: str = "test") -> list[tuple[int, int]]:
    """(grey level, label) of every sample."""
    data = load("imagenet", split, data_dir=root, size=8, mean=(0, 0, 0), std=(1, 1, 1))
    return [(round(float(image.mean()) * 255), label) for image, label in data]


def test_tiny_imagenet(tmp_path: Path) -> None:
    root = tmp_path / "tiny-imagenet-200"
    rows = []
    for label, name in enumerate(WNIDS):
        for number in range(2):
            write(root / "train" / name / "images" / f"{name}_{number}.JPEG", 10 * label + number)
        (root / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t8\t8\n")
    for number, label in enumerate(LABELS):
        write(root / "val" / "images" / f"val_{number}.JPEG", 100 + number)
        rows.append(f"val_{number}.JPEG\t{WNIDS[label]}\t0\t0\t8\t8\n")
    write(root / "test" / "images" / "test_0.JPEG", 0)
    (root / "val" / "val_annotations.txt").write_text("".join(rows))
    (root / "wnids.txt").write_text("\n".join(reversed(WNIDS)))
    right = [(101, 0), (102, 0), (104, 1), (103, 2), (100, 3), (105, 3)]
    for place in (root, tmp_path):
        assert read(place, "train") == [(10 * label + number, label) for label in range(4) for number in range(2)]
        assert read(place) == right
    (root / "wnids.txt").unlink()
    assert ImageNet(root, "val", size=8).classes == WNIDS
    assert read(root) == right
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\n")
    with pytest.raises(ZooError, match=r"val_annotations\.txt holds the line 'val_0\.JPEG'; .* its class were"):
        read(root)
    (root / "val" / "val_annotations.txt").write_text("".join(rows[:5]))
    with pytest.raises(ZooError, match=r"val_annotations\.txt has no label for .*val_5\.JPEG"):
        read(root)


@pytest.fixture
def val(tmp_path: Path) -> Path:
    """A flat folder val/ with the validation images."""
    for number in range(1, 7):
        write(tmp_path / "val" / f"ILSVRC2012_val_{number:08}.JPEG", 100 + number)
    return tmp_path / "val"


RIGHT = [(102, 0), (103, 0), (105, 1), (104, 2), (101, 3), (106, 3)]


def test_images_without_labels_are_answered_with_what_makes_the_folders(val: Path) -> None:
    with pytest.raises(ZooError, match=r"holds 6 images and no class folders; .*torchvision.* makes class folders"):
        read(val.parent)
    shutil.rmtree(val)
    (val.parent / "ILSVRC2012_img_val.tar").touch()
    with pytest.raises(ZooError, match=r"val is no folder: .* torchvision\.datasets .* makes class folders"):
        read(val.parent)


def test_the_solution_of_kaggle(val: Path) -> None:
    rows = [f"ILSVRC2012_val_{n:08},{WNIDS[label]} 1 2 3 4 {WNIDS[label]} 5 6 7 8" for n, label in enumerate(LABELS, 1)]
    text = "ImageId,PredictionString\n" + "\n".join(reversed(rows)) + "\n"
    place = val.parent / "ILSVRC" / "Data" / "CLS-LOC"
    place.mkdir(parents=True)
    val.rename(place / "val")
    (val.parent / "LOC_val_solution.csv").write_text(text)
    assert read(val.parent) == read(place) == RIGHT
    for name in WNIDS:
        write(place / "train" / name / f"{name}_1.JPEG", 7)
    assert ImageNet(place, "train", size=8).classes == ImageNet(place, "test", size=8).classes == WNIDS


@pytest.mark.parametrize("folder", ["val", "ILSVRC2012_img_val", "."])
def test_wordnet_ids_in_order(val: Path, folder: str) -> None:
    root = val.parent
    truth = "".join(f"{WNIDS[label]}\r\n" for label in LABELS)
    if folder == ".":
        root = val
    else:
        val.rename(root / folder)
    (root / "imagenet_2012_validation_synset_labels.txt").write_text(truth)
    (root / "notes").mkdir()
    assert read(root) == RIGHT
    next((root / folder).glob("*1.JPEG")).unlink()  # a part of the images is read too, with all classes
    assert read(root) == [sample for sample in RIGHT if sample[0] != 101]
    assert len(ImageNet(root, "test", size=8).classes) == 4


def test_the_devkit(val: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devkit = val.parent / "ILSVRC2012_devkit_t12" / "data"
    devkit.mkdir(parents=True)
    ids = [2, 1, 5, 3]  # the devkit numbers the classes in another order than that of their names
    truth = devkit / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("".join(f"{ids[label]}\n" for label in LABELS))
    with pytest.raises(ZooError, match=r"ground_truth\.txt numbers its classes as meta\.mat .* torchvision"):
        read(val.parent)
    (devkit / "meta.mat").write_bytes(b"MATLAB")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "scipy.io", None)
        with pytest.raises(ZooError, match=r"meta\.mat is read with scipy, which is not installed: pip install scipy"):
            read(val.parent)
    scipy_io = pytest.importorskip("scipy.io")
    with pytest.raises(ZooError, match=r"meta\.mat is no readable meta\.mat of the devkit"):
        read(val.parent)
    synsets = np.zeros((5, 1), dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("words", object)])
    for row, (number, wnid) in enumerate(zip([*ids, 4], [*WNIDS, "n09999999"], strict=True)):
        synsets[row, 0] = (number, wnid, "a word, another")
    scipy_io.savemat(devkit / "meta.mat", {"synsets": synsets})
    assert read(val.parent) == RIGHT
    truth.write_text("1\n2\n2000\n")
    with pytest.raises(ZooError, match=r"ground_truth\.txt holds '2000', which is no class of .*meta\.mat"):
        read(val.parent)
