"""Class folders in every layout, what counts as a sample, and the part that is held out."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_files import write_images, write_shapes

from zoo.datasets.folder.listing import Listing, list_folder
from zoo.errors import ZooError


def names(listing: Listing) -> tuple[list[str], list[str]]:
    return tuple(  # type: ignore[return-value]
        [f"{listing.classes[label]}/{path.name}" for path, label in files] for files in (listing.train, listing.test)
    )


def test_all_layouts_give_the_same_samples(tmp_path: Path) -> None:
    split_first = list_folder(write_shapes(tmp_path / "a", "{split}/{name}/{file}"))
    class_first = list_folder(write_shapes(tmp_path / "b", "{name}/{split}/{file}"))
    assert names(split_first) == names(class_first)
    assert split_first.kind == class_first.kind == "points"
    assert split_first.classes == ("flat", "tall")
    assert names(split_first)[1] == ["flat/flat4.off", "flat/flat9.off", "tall/tall4.off", "tall/tall9.off"]
    images = list_folder(write_images(tmp_path / "c", "{split}/{name}/{file}"))
    assert (images.kind, images.classes) == ("images", ("blue", "red"))
    assert names(images)[1] == ["blue/blue4.png", "blue/blue9.png", "red/red4.png", "red/red9.png"]
    (tmp_path / "c" / "val").rename(tmp_path / "c" / "Valid")
    assert names(list_folder(tmp_path / "c")) == names(images)


def test_test_comes_before_val(tmp_path: Path) -> None:
    write_images(tmp_path, "{split}/{name}/{file}")
    write_images(tmp_path, "test/{name}/other-{file}", count=1)
    assert names(list_folder(tmp_path))[1] == ["blue/other-blue0.png", "red/other-red0.png"]


def test_a_fifth_of_every_class_is_held_out_where_no_split_is_given(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "a", count=20)
    (root / "tall" / "tall0.off").unlink()
    first = list_folder(root)
    assert [[label for _, label in files].count(0) for files in (first.train, first.test)] == [16, 4]
    assert [[label for _, label in files].count(1) for files in (first.train, first.test)] == [15, 4]
    assert not {path for path, _ in first.train} & {path for path, _ in first.test}
    root.rename(tmp_path / "moved")
    assert names(list_folder(tmp_path / "moved")) == names(first)  # a path within the folder decides
    inside = write_shapes(tmp_path / "b", "train/{name}/{file}")  # no folder of test samples
    assert len(list_folder(inside).test) == 4


def test_names_of_classes_may_be_those_of_splits(tmp_path: Path) -> None:
    """A train is a vehicle, too."""
    write_images(tmp_path)
    (tmp_path / "red").rename(tmp_path / "train")
    assert list_folder(tmp_path).classes == ("blue", "train")


def test_what_is_no_sample_is_left_out(tmp_path: Path) -> None:
    write_images(tmp_path, "{split}/{name}/{file}")
    before = list_folder(tmp_path)
    (tmp_path / "__MACOSX" / "train" / "blue").mkdir(parents=True)
    junk = ("train/blue/._blue0.png", "train/blue/Thumbs.db", "train/red/notes.txt", "train/.DS_Store", "README.md")
    for file in junk:
        (tmp_path / file).write_text("no image")
    (tmp_path / "train" / "empty").mkdir()
    assert list_folder(tmp_path) == before


def test_textures_of_meshes_are_no_samples(tmp_path: Path) -> None:
    write_shapes(tmp_path)
    write_images(tmp_path, "flat/texture-{file}", count=2)
    listing = list_folder(tmp_path)
    assert listing.kind == "points"
    assert len(listing.train) + len(listing.test) == 20


def test_the_digest_tells_folders_apart(tmp_path: Path) -> None:
    first, same = (list_folder(write_shapes(tmp_path / name)) for name in "ab")
    assert first.digest() == same.digest()
    (tmp_path / "b" / "flat" / "flat0.off").write_text("OFF")
    assert list_folder(tmp_path / "b").digest() != first.digest()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no class folders with images"),
        (["a.png"], "holds no class folders with images"),
        (["one/a.png"], "one class folder only, one"),
        (["a/a.png", "b/b.off"], "mixes images and shapes: there are shapes in b and none in a; give a folder of one"),
        (["one/a.png", "two/b.npy"], r"holds images \(1\) and clouds \(1\): .* without the \.npy files"),
        (["one/a.doc", "two/b.doc"], "holds no class folders with images"),
    ],
)
def test_folders_that_do_not_fit(tmp_path: Path, files: list[str], message: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("x")
    with pytest.raises(ZooError, match=message):
        list_folder(tmp_path)
    with pytest.raises(ZooError, match="is no folder"):
        list_folder(tmp_path / "absent")
