"""Labelled images in one folder without class folders: the validation parts of ILSVRC 2012 and Tiny ImageNet."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from zoo.datasets.files.child import in_child
from zoo.datasets.files.images import IMAGE_SUFFIXES
from zoo.datasets.files.listing import is_junk, list_folders
from zoo.datasets.files.lists import read_lines
from zoo.errors import ZooError, excerpt, first_line
from zoo.utils import read_file

ILSVRC_VAL = "ILSVRC2012_val_"  # its images are numbered ILSVRC2012_val_00000001.JPEG to ..._00050000.JPEG
GROUND_TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
PLACES = ("", "ILSVRC2012_devkit_t12/data", "devkit/data", "data")

_READ_META = """
from scipy.io import loadmat
synsets = loadmat(sys.argv[1], squeeze_me=True, variable_names=["synsets"])["synsets"]
print(json.dumps({int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}))
"""

# torchvision unpacks both archives and sorts the images into class folders.
UNPACK = (
    "python -c \"from torchvision.datasets import ImageNet; ImageNet('DIR', 'val')\" makes class folders of the "
    "archives ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz in DIR (with scipy installed)"
)


def flat_images(folder: Path) -> tuple[list[tuple[Path, str]], list[str]] | None:
    """(image, name of its class) for all images of a folder, and the names of all classes in the list of labels.

    The images lie in `folder` or in `folder`/images; the labels are looked for there and in the folders above:
    val_annotations.txt of Tiny ImageNet; LOC_val_solution.csv of Kaggle; the ground truth of ILSVRC 2012 with the
    meta.mat of its devkit, or as a list of WordNet IDs.

    None if the folder has class folders, or no images. Raises ZooError for images without labels.
    """
    folders = [entry.name for entry in list_folders(folder)]
    if folders and folders != ["images"] and not next(folder.glob(f"{ILSVRC_VAL}*"), None):
        return None
    place = folder / "images" if folders == ["images"] else folder
    images = sorted(
        path for path in place.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES and not is_junk(path.name)
    )
    found = _labels(folder)
    if not images or (found is None and folders == ["images"]):
        return None  # without labels, images is a class
    if found is None:
        raise ZooError(
            f"{folder} holds {len(images)} images and no class folders; put their labels beside it "
            f"(LOC_val_solution.csv, or {GROUND_TRUTH} and {META} of the devkit), or: {UNPACK}"
        )
    source, labels = found
    if missing := next((path for path in images if path.stem not in labels), None):
        raise ZooError(f"{source} has no label for {missing}")
    return [(path, labels[path.stem]) for path in images], sorted(set(labels.values()))


def _labels(folder: Path) -> tuple[Path, dict[str, str]] | None:
    """The file with labels, and the class of every image by the name of its file without the suffix."""
    for above in (folder, *folder.absolute().parents[:4]):  # Kaggle's val is ILSVRC/Data/CLS-LOC/val
        for place in PLACES:
            for name, read in _READERS.items():
                if (path := above / place / name).is_file():
                    return path, read(path)
    return None


def _annotations(path: Path) -> dict[str, str]:
    """Lines of the name of a file, its class, and perhaps more; with spaces, tabs or commas between them."""
    words = [line.replace(",", " ").split() for line in read_lines(path)]
    if short := next((" ".join(line) for line in words if len(line) < 2), None):
        raise ZooError(f"{path} holds the line {excerpt(short)}; the name of an image and its class were expected")
    return {Path(line[0]).stem: line[1] for line in words if line[0] != "ImageId"}  # the header of Kaggle's


def _ground_truth(path: Path) -> dict[str, str]:
    """One line for each of the validation images in order: a WordNet ID, or a number of a class in meta.mat."""
    lines = read_lines(path)
    if lines and lines[0].isdecimal():
        meta = path.with_name(META)
        if not meta.is_file():
            raise ZooError(
                f"{path} numbers its classes as {META} of the devkit does: put {META} beside it, or: {UNPACK}"
            )
        wnids = _wnids(meta)
        if unknown := next((line for line in lines if line not in wnids), None):
            raise ZooError(f"{path} holds {excerpt(unknown)}, which is no class of {meta}")
        lines = [wnids[line] for line in lines]
    return {f"{ILSVRC_VAL}{number:08}": wnid for number, wnid in enumerate(lines, start=1)}


def _wnids(meta: Path) -> dict[str, str]:
    """Number of each class in the devkit, as text -> its WordNet ID."""
    if importlib.util.find_spec("scipy") is None or importlib.util.find_spec("scipy.io") is None:
        raise ZooError(f"{meta} is read with scipy, which is not installed: pip install scipy")
    try:
        read_file(meta)  # an ordinary file of bounded size
        # In a process of its own, because scipy crashes on damaged files, and takes what memory they claim.
        return {str(number): str(wnid) for number, wnid in in_child(_READ_META, str(meta)).items()}
    except (ZooError, ValueError, OSError) as error:
        raise ZooError(f"{meta} is no readable {META} of the devkit: {first_line(error)}") from error


_READERS: dict[str, Callable[[Path], dict[str, str]]] = {
    "val_annotations.txt": _annotations,
    "LOC_val_solution.csv": _annotations,
    GROUND_TRUTH: _ground_truth,
    "imagenet_2012_validation_synset_labels.txt": _ground_truth,
}
