"""ModelNet in both layouts, written here in the real formats, against the arrays they were written from."""

from __future__ import annotations

import math
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from zoo.datasets import load, meshes
from zoo.datasets.modelnet import MODELNET10, MODELNET40, ModelNet10, ModelNet40, read_off
from zoo.datasets.point_transforms import normalise
from zoo.errors import ZooError

ROWS = {"train": 24, "test": 12}


def write_hdf5(folder: Path, names: tuple[str, ...], points: int = 64) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Stanford's layout; returns data and label of each split. The train split lies in two files."""
    folder.mkdir(parents=True)
    (folder / "shape_names.txt").write_text("\n".join(names) + "\n")
    written = {}
    rng = np.random.default_rng(0)
    for split, count in ROWS.items():
        data = rng.normal(size=(count, points, 3)).astype(np.float32) + 2
        label = rng.integers(len(names), size=(count, 1)).astype(np.uint8)
        written[split] = data, label[:, 0]
        listed = []
        for part, rows in enumerate(np.array_split(np.arange(count), 2 if split == "train" else 1)):
            with h5py.File(folder / f"ply_data_{split}{part}.h5", "w") as file:
                file["data"], file["label"] = data[rows], label[rows]
            listed.append(f"data/modelnet40_ply_hdf5_2048/ply_data_{split}{part}.h5")
        (folder / f"{split}_files.txt").write_text("\n".join(listed) + "\n")
    return written


BOX = [(0, 0, 0), (1, 0, 0), (1, 2, 0), (0, 2, 0), (0, 0, 3), (1, 0, 3), (1, 2, 3), (0, 2, 3)]
SIDES = [(0, 1, 2, 3), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]


def off_text(scale: float = 1.0, header: str = "OFF\n8 6 0") -> str:
    places = [" ".join(str(scale * value) for value in place) for place in BOX]
    faces = [" ".join(map(str, (4, *side))) for side in SIDES]
    return "\n".join([header, *places, *faces]) + "\n"


def write_off(folder: Path, names: tuple[str, ...] = MODELNET10, count: int = 2) -> None:
    """Princeton's layout: `count` boxes of different sizes for each class and split."""
    for index, name in enumerate(names):
        for split in ("train", "test"):
            (folder / name / split).mkdir(parents=True)
            for number in range(count):
                text = off_text(1.0 + index + number, "OFF8 6 0" if number == 1 else "OFF\n8 6 0")
                (folder / name / split / f"{name}_{number:04}.off").write_text(text)


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


def test_missing_and_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"absent is no folder: looked for shape_names\.txt"):
        load("modelnet10", "test", data_dir=tmp_path / "absent")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ZooError, match=r"holds no ModelNet: .*give the folder that has one with `data_dir=DIR`"):
        load("modelnet40", "test", data_dir=tmp_path)


def on_box(cloud: torch.Tensor) -> torch.Tensor:
    """How far each point of a normalised cloud is from the surface of its 1 x 2 x 3 box, in box units.

    The box's faces are where the extremes lie, for 2048 points to within about a per cent.
    """
    low, high = cloud.amin(dim=1, keepdim=True), cloud.amax(dim=1, keepdim=True)
    place = (cloud - low) / (high - low)
    return torch.minimum(place, 1 - place).amin(dim=0)


def test_meshes_give_points_on_their_surface(tmp_path: Path) -> None:
    write_off(tmp_path / "ModelNet10")
    found = load("modelnet10", "train", data_dir=tmp_path, points=2048)
    assert len(found) == 20
    assert [y for _, y in found] == [i // 2 for i in range(20)]
    for x, _ in (found[0], found[1], found[19]):
        assert x.shape == (3, 2048)
        assert x.norm(dim=0).max() == pytest.approx(1, abs=1e-5)
        assert x.mean(dim=1).abs().max() < 1e-5
        extent = x.amax(dim=1) - x.amin(dim=1)
        torch.testing.assert_close(extent / extent[0], torch.tensor([1.0, 2.0, 3.0]), atol=0.03, rtol=0)
        assert on_box(x).max() < 0.01
        # Area-weighted: 2 * 2 * 3 of the 22 units of area are the two sides across x.
        across = torch.minimum(x[0] - x[0].min(), x[0].max() - x[0]) < 0.002
        assert abs(across.float().mean() - 12 / 22) < 0.05
    with pytest.raises(ZooError, match="stores 1 to 2048"):
        load("modelnet10", "test", data_dir=tmp_path, points=2049)


def test_sampled_meshes_are_kept_and_made_again_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_off(tmp_path)
    state = torch.get_rng_state()
    first = ModelNet10(tmp_path, "test").clouds
    assert torch.get_rng_state().equal(state)  # the global generator is the user's
    kept = sorted(tmp_path.glob("*/test/.zoo-*.npy"))
    assert len(kept) == 10

    real, calls = meshes.sample_mesh, []

    def counted(path: Path, points: int, *, name: str, seed: int) -> torch.Tensor:
        calls.append(path.name)
        return real(path, points, name=name, seed=seed)

    monkeypatch.setattr(meshes, "sample_mesh", counted)
    assert ModelNet10(tmp_path, "test").clouds.equal(first)
    assert calls == []
    kept[3].write_bytes(kept[3].read_bytes()[:1000])  # damaged: made again, and the same
    assert ModelNet10(tmp_path, "test").clouds.equal(first)
    assert calls == ["desk_0000.off", "desk_0001.off"]
    (tmp_path / "bed" / "test" / "bed_0001.off").write_text(off_text(9.0).replace("0.0 0.0 27.0", "0.0 0.0 40.0"))
    changed = ModelNet10(tmp_path, "test").clouds
    assert calls[2:] == ["bed_0000.off", "bed_0001.off"]
    assert [i for i in range(20) if not changed[i].equal(first[i])] == [3]
    assert not ModelNet10(tmp_path, "test", sampling_seed=1).clouds[0].equal(first[0])
    shutil.copytree(tmp_path, tmp_path.parent / "elsewhere", ignore=shutil.ignore_patterns(".zoo-*"))
    assert ModelNet10(tmp_path.parent / "elsewhere", "test").clouds.equal(changed)  # of the mesh, not of its path


def test_broken_meshes_are_named(tmp_path: Path) -> None:
    write_off(tmp_path)
    path = tmp_path / "chair" / "test" / "chair_0001.off"
    for text, message in [
        ("", "no readable OFF mesh: it is empty"),
        ("PLY\n1 2 3\n", "no readable OFF mesh: line 1 was expected to hold OFF"),
        (off_text()[:60], "8 vertices and 6 faces are announced, "),
        (off_text().replace("4 3 0 4 7", "4 3 0 4 8"), "a face names a vertex that is not there"),
        (off_text().replace("1.0 2.0 3.0", "1.0 nan 3.0"), "line 9 holds the vertex 1.0 nan 3.0"),
        (off_text().replace("1.0 2.0 3.0", "1.0 two 3.0"), "no readable OFF mesh: line 9 holds no vertex"),
        (off_text(0.0), "has no surface to sample"),
        ("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "no faces"),
    ]:
        path.write_text(text)
        with pytest.raises(ZooError, match=rf"chair_0001\.off .*{message}"):
            ModelNet10(tmp_path, "test")
    shutil.rmtree(tmp_path / "chair" / "test")
    with pytest.raises(ZooError, match=r"has no meshes chair/test/\*\.off; 10 class folders were expected"):
        ModelNet10(tmp_path, "test")


def test_reading_equals_torch_geometric_where_that_reads(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # importing it calls torch.jit.script
        from torch_geometric.io import read_off
    path = tmp_path / "a.off"
    path.write_text(off_text())
    theirs = read_off(str(path))
    vertices, triangles = meshes.read_mesh(path)
    assert vertices.equal(theirs.pos)

    def faces(index: torch.Tensor) -> list[tuple[int, ...]]:  # they list all first halves of quads, then the second
        return sorted(tuple(corner) for corner in index.T.tolist())

    assert faces(triangles) == faces(theirs.face)
    # And what it does not read, or reads wrongly, gives the same mesh.
    for text in (
        off_text(header="OFF8 6 0"),
        off_text(header="OFF 8 6 0"),
        off_text(header="OFF\n# a comment\n\n8 6 12"),
        off_text().rstrip("\n"),
        off_text().replace("\n", "\r\n"),
        off_text().replace("\n", " \n\n"),
        off_text().replace("4 0 1 2 3", "4 0 1 2 3 255 0 0"),
    ):
        path.write_bytes(text.encode())
        again = meshes.read_mesh(path)
        assert again[0].equal(vertices)
        assert again[1].equal(triangles)


def test_a_face_of_five_corners_keeps_its_area(tmp_path: Path) -> None:
    angle = [2 * math.pi * i / 5 for i in range(5)]
    places = "\n".join(f"{math.cos(a)} {math.sin(a)} 0" for a in angle)
    (tmp_path / "a.off").write_text(f"OFF\n5 1 0\n{places}\n5 0 1 2 3 4\n")
    vertices, triangles = meshes.read_mesh(tmp_path / "a.off")
    corners = vertices[triangles.T]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1).sum() / 2
    assert triangles.shape == (3, 3)
    assert area == pytest.approx(5 / 2 * math.sin(2 * math.pi / 5), rel=1e-5)


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


@pytest.mark.parametrize("root", ["", "ModelNet10", "ModelNet10/raw"])
def test_the_folder_of_torch_geometric(tmp_path: Path, root: str) -> None:
    write_off(tmp_path / "ModelNet10" / "raw", count=1)
    (tmp_path / "ModelNet10" / "processed").mkdir()
    found = load("modelnet10", "test", data_dir=tmp_path / root)
    assert [label for _, label in found] == list(range(10))


def write_text(folder: Path, names: tuple[str, ...], points: int, lists: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The layout of modelnet40_normal_resampled; returns the points of each sample."""
    rng = np.random.default_rng(1)
    written = {}
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(3):
            cloud = rng.normal(size=(points, 6)) + 5
            np.savetxt(folder / name / f"{name}_{number:04}.txt", cloud, fmt="%.6f", delimiter=",")
            written[f"{name}_{number:04}"] = cloud[:, :3]
    for start in lists:
        (folder / f"{start}_shape_names.txt").write_text("\n".join(names) + "\n")
        for split, numbers in (("train", (2, 0)), ("test", (1,))):
            samples = [f"{name}_{number:04}" for number in numbers for name in names]
            (folder / f"{start}_{split}.txt").write_text("\r\n".join(samples) + "\r\n")
    return written


def test_text_clouds_with_normals(tmp_path: Path) -> None:
    written = write_text(tmp_path / "modelnet40_normal_resampled", MODELNET40, 40, ("modelnet40",))
    found = load("modelnet40", "train", data_dir=tmp_path, points=32)
    assert found.classes == list(MODELNET40)
    assert [label for _, label in found] == [label for label in range(40) for _ in range(2)]
    for i, (cloud, label) in enumerate(found):
        whole = torch.from_numpy(written[f"{MODELNET40[label]}_{(2, 0)[i % 2]:04}"].T.copy())
        torch.testing.assert_close(cloud, normalise(whole)[:, :32].float(), atol=1e-5, rtol=0)
    ten = load("modelnet10", "test", data_dir=tmp_path, points=40)  # from the lists of ModelNet40
    assert [ten.classes[label] for _, label in ten] == list(MODELNET10)
    torch.testing.assert_close(
        ten[6][0], normalise(torch.from_numpy(written["night_stand_0001"].T.copy())).float(), atol=1e-5, rtol=0
    )
    assert len(list(tmp_path.glob("*/*/.zoo-*.npy"))) == 50
    assert load("modelnet40", "train", data_dir=tmp_path, points=32)[5][0].equal(found[5][0])


def test_of_long_text_clouds_the_first_points_are_read(tmp_path: Path) -> None:
    written = write_text(tmp_path, MODELNET10, 2100, ("modelnet10", "modelnet40"))
    found = ModelNet10(tmp_path, "test", points=2048)
    first = normalise(torch.from_numpy(written["bathtub_0001"][:2048].T.copy()))
    torch.testing.assert_close(found[0][0], first.float(), atol=1e-5, rtol=0)


def test_broken_text_clouds_are_named(tmp_path: Path) -> None:
    write_text(tmp_path, MODELNET10, 4, ("modelnet10",))
    path = tmp_path / "chair" / "chair_0001.txt"
    whole = path.read_text()
    for text, message in [
        ("", "holds no point"),
        (whole.replace(",", " ").splitlines()[0], "holds 1 points, .*bathtub_0001.txt holds 4"),
        (whole + "1,2,3\n", "holds 5 points"),
        ("1,2,3\n1,2\n", ", line 2, holds '1,2'; three coordinates"),
        ("1,2,3\n# none\n1,nan,3\n", ", line 3, holds '1,nan,3'"),
        ("1,2,3\n1,2,1e30\n", ", line 2, holds '1,2,1e30'.* at most 1e"),
        ("1,2,3\n1,two,3\n", ", line 2, holds no point: .*'two'"),
    ]:
        path.write_text(text)
        with pytest.raises(ZooError, match=rf"chair_0001\.txt.*{message}"):
            ModelNet10(tmp_path, "test", points=4)
    path.unlink()
    with pytest.raises(ZooError, match=r"cannot read .*chair_0001\.txt"):
        ModelNet10(tmp_path, "test", points=4)
    (tmp_path / "modelnet10_test.txt").write_text("lamp_0001\n")
    with pytest.raises(ZooError, match=r"modelnet10_test\.txt has none of the 10 classes bathtub, bed, chair, \.\.\."):
        ModelNet10(tmp_path, "test", points=4)
    (tmp_path / "modelnet10_test.txt").unlink()
    with pytest.raises(ZooError, match=r"cannot read .*modelnet10_test\.txt"):
        ModelNet10(tmp_path, "test", points=4)


def test_a_part_of_the_classes_is_read_and_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_off(tmp_path / "meshes", ("sofa", "chair"), count=1)
    assert [label for _, label in ModelNet10(tmp_path / "meshes", "test")] == [2, 7]
    assert "meshes has 2 of 10 classes, without bathtub, bed, desk, ...\n" in capsys.readouterr().err
    write_text(tmp_path / "text", MODELNET10[:9], 4, ("modelnet10",))
    assert [label for _, label in ModelNet10(tmp_path / "text", "test", points=4)] == list(range(9))
    assert "modelnet10_test.txt has 9 of 10 classes, without toilet\n" in capsys.readouterr().err
    with pytest.raises(ZooError, match=r"meshes has none of the 1 classes vase"):
        read_off(tmp_path / "meshes", "test", ("vase",))
