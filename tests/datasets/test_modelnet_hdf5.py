"""ModelNet as Stanford's HDF5 files, against the arrays they were written from."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from modelnet_layouts import ROWS, write_hdf5

from zoo.datasets import load
from zoo.datasets.modelnet import MODELNET10, MODELNET40, ModelNet10, ModelNet40
from zoo.datasets.point_transforms import normalise
from zoo.errors import ZooError


def test_hdf5_gives_the_rows_that_were_written(tmp_path: Path) -> None:
    written = write_hdf5(tmp_path / "modelnet40_ply_hdf5_2048", MODELNET40)
    for split, (data, label) in written.items():
        found = load("modelnet40", split, data_dir=tmp_path, points=40)
        assert len(found) == ROWS[split]
        assert found.classes == list(MODELNET40)
        for i, (x, y) in enumerate(found):
            centred = data[i] - data[i].mean(axis=0)
            expected = (centred / np.sqrt((centred**2).sum(axis=1)).max())[:40].T
            np.testing.assert_allclose(x.numpy(), expected, atol=1e-5)
            assert x.dtype == torch.float32
            assert y == label[i]


def test_ten_classes_of_forty(tmp_path: Path) -> None:
    data, label = write_hdf5(tmp_path / "m", MODELNET40)["train"]
    found = ModelNet10(tmp_path / "m", "train", points=64)
    kept = [i for i in range(len(data)) if MODELNET40[label[i]] in MODELNET10]
    assert 0 < len(kept) < len(data)
    assert [found.classes[y] for _, y in found] == [MODELNET40[label[i]] for i in kept]
    for (x, _), i in zip(found, kept, strict=True):
        torch.testing.assert_close(x, normalise(torch.from_numpy(data[i].T.copy())), atol=1e-5, rtol=0)


def test_forty_classes_are_not_in_ten(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "m", MODELNET10)
    assert len(ModelNet10(tmp_path / "m", "test", points=64)) == 12
    with pytest.raises(ZooError, match="lists 10 classes, without airplane, bench, bookshelf"):
        ModelNet40(tmp_path / "m", "test", points=64)


def test_augmented_samples_are_random_subsets_scaled_and_moved(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "m", MODELNET10, points=24)
    plain = ModelNet10(tmp_path / "m", "train", points=24)
    varied = ModelNet10(tmp_path / "m", "train", points=12, augment=True)
    chosen = set()
    for i in range(len(plain)):
        whole, part = plain[i][0], varied[i][0]
        # Per axis the map is affine: found from the whole set of pairs by trying every two stored points.
        used = []
        for axis in range(3):
            x, y = whole[axis].double(), part[axis].double()
            slope = (y[0] - y[1]) / (x[:, None] - x[None, :])
            shift = y[0] - slope * x[:, None]
            image = slope[..., None] * x + shift[..., None]
            distance = (image[..., None] - y).abs().amin(dim=2).amax(dim=2)
            allowed = (slope > 2 / 3 - 1e-3) & (slope < 3 / 2 + 1e-3) & (shift.abs() < 0.201)
            best = distance.masked_fill(~allowed, math.inf)
            assert best.min() < 1e-4
            used.append(divmod(int(best.argmin()), 24)[0])
        assert len(set(used)) == 1  # the three axes agree which stored point came first
        chosen.add(used[0])
    assert len(chosen) > 8  # and it is not always the same
    assert not varied[0][0].equal(ModelNet10(tmp_path / "m", "train", points=12, augment=True, seed=1)[0][0])


def test_more_points_than_stored(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "m", MODELNET10)
    with pytest.raises(ZooError, match=r"65 points were asked, .* stores 1 to 64"):
        ModelNet10(tmp_path / "m", "test", points=65)
    with pytest.raises(ZooError, match="1024 points were asked"):
        load("modelnet10", "test", data_dir=tmp_path / "m")


def test_nan_is_named_by_file_and_row(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "m", MODELNET10)
    with h5py.File(tmp_path / "m" / "ply_data_train1.h5", "r+") as file:
        file["data"][7, 3, 1] = float("nan")
    with pytest.raises(ZooError, match=r"ply_data_train1\.h5, row 7, holds NaN"):
        ModelNet10(tmp_path / "m", "train", points=64)
    assert len(ModelNet10(tmp_path / "m", "test", points=64)) == 12


def test_wrong_hdf5_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write_hdf5(folder, MODELNET10)
    path = folder / "ply_data_test0.h5"

    def fails(message: str) -> None:
        with pytest.raises(ZooError, match=message):
            ModelNet10(folder, "test", points=8)

    for data, label, message in [
        (np.zeros((4, 8, 2)), np.zeros((4, 1)), r"ply_data_test0\.h5 has data \(4, 8, 2\)"),
        (np.zeros((4, 8, 3)), np.zeros((3, 1)), r"label \(3,\); expected"),
        (np.zeros((4, 8, 3)), np.full((4, 1), 10), "has label 10, but shape_names.txt lists 10"),
    ]:
        with h5py.File(path, "w") as file:
            file["data"], file["label"] = data, label
        fails(message)
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros((4, 8, 3))
    fails(r"cannot read .*ply_data_test0\.h5 as HDF5 with data and label")
    path.write_bytes(b"no HDF5")
    fails(r"cannot read .*ply_data_test0\.h5")
    path.unlink()
    fails(r"cannot read .*ply_data_test0\.h5")
    (folder / "test_files.txt").write_text("")
    fails("test_files.txt lists no file")
    (folder / "test_files.txt").unlink()
    fails(r"cannot read .*test_files\.txt")


@pytest.mark.parametrize(
    "written_as",
    [
        "{0}",
        "clouds of ours/{0}",
        "data/modelnet40_ply_hdf5_2048/clouds of ours/{0}",
        "./clouds of ours/{0}",
        "/home/someone/m/clouds of ours/{0}",
        r"C:\Users\some one\m\clouds of ours\{0}",
        r"clouds of ours\{0}",
        "{absolute}",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_of_hdf5_files_have_paths_of_any_system(tmp_path: Path, written_as: str, end: str) -> None:
    folder = tmp_path / "m"
    data, label = write_hdf5(folder, MODELNET10)["test"]
    place = folder if written_as == "{0}" else folder / "clouds of ours"
    place.mkdir(exist_ok=True)
    (folder / "ply_data_test0.h5").rename(place / "ply data 0.h5")
    line = written_as.format("ply data 0.h5", absolute=place / "ply data 0.h5")
    (folder / "test_files.txt").write_bytes(f"{line}{end}{end}".encode())
    (folder / "shape_names.txt").write_bytes(("\ufeff" + end.join(MODELNET10) + end).encode())
    found = ModelNet10(folder, "test", points=64)
    assert found.labels.tolist() == label.tolist()
    torch.testing.assert_close(found[3][0], normalise(torch.from_numpy(data[3].T.copy())), atol=1e-5, rtol=0)


def test_hdf5_clouds_that_are_no_clouds_are_refused(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "m", MODELNET10)
    path = tmp_path / "m" / "ply_data_test0.h5"
    for data, message in [
        (np.full((4, 8, 3), 1e300), r"test0\.h5, row 0, holds NaN, infinite coordinates, or some beyond 1e\+12"),
        (np.full((4, 8, 3), 1e20), r"test0\.h5, row 0, holds NaN, infinite coordinates, or some beyond 1e\+12"),
        (np.zeros((4, 0, 3)), r"test0\.h5 has data \(4, 0, 3\)"),
        (np.zeros((0, 8, 3)), "the test split in .* is empty; 10 classes were expected"),
    ]:
        with h5py.File(path, "w") as file:
            file["data"], file["label"] = data, np.zeros((len(data), 1))
        with pytest.raises(ZooError, match=message):
            ModelNet10(tmp_path / "m", "test", points=8)
