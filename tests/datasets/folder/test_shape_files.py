"""Meshes and clouds of every format, written by numpy and trimesh or by hand, as clouds and as samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from own_files import TETRAHEDRON

from zoo.datasets import read_sample
from zoo.datasets.folder.shape_files import STORED, ShapeFiles, read_cloud, read_shape
from zoo.datasets.modelnet import ModelNet10
from zoo.errors import ZooError

POINTS = np.random.default_rng(0).normal(size=(40, 3))


@pytest.mark.parametrize("suffix", ["off", "obj", "stl", "ply"])
def test_points_of_a_mesh_lie_on_its_surface(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"box.{suffix}"
    trimesh.creation.box((1.0, 2.0, 4.0)).export(path)
    vertices, triangles = read_shape(path)
    assert triangles is not None
    corners = vertices[triangles]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    assert areas.sum() == pytest.approx(2 * (1 * 2 + 2 * 4 + 1 * 4))
    cloud = read_cloud(path, 64)
    assert cloud.shape == (3, STORED)
    assert cloud.mean(dim=1).abs().max() < 1e-6
    assert cloud.norm(dim=0).max() == pytest.approx(1)
    # Each point is on a face: one of its coordinates is (nearly) an extreme one, and the sides are as 1 to 2 to 4.
    low, high = cloud.min(dim=1, keepdim=True)[0], cloud.max(dim=1, keepdim=True)[0]
    assert torch.minimum(cloud - low, high - cloud).min(dim=0)[0].max() < 1e-2
    sides = (high - low).squeeze()
    assert (sides / sides[0]).tolist() == pytest.approx([1, 2, 4], rel=0.02)
    assert read_cloud(path, 64).equal(cloud)


def test_an_obj_file_of_several_parts_with_a_material_is_one_mesh(tmp_path: Path) -> None:
    path = tmp_path / "a.obj"
    square = "v {0} 0 0\nv {0} 1 0\nv {0} 1 1\nv {0} 0 1\n"
    text = "mtllib none.mtl\no one\n" + square.format(0) + "usemtl red\nf 1/1/1 2/2/2 3 4\no two\n"
    path.write_text(text + square.format(2) + "f -4 -3 -2 -1\n")
    vertices, triangles = read_shape(path)
    assert triangles is not None
    assert sorted(set(vertices[triangles].reshape(-1, 3)[:, 0])) == [0, 2]
    assert len(triangles) == 4


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def clouds(folder: Path) -> list[Path]:
    """POINTS in every form, with and without further columns."""
    more = np.hstack([POINTS, np.ones((40, 4))])
    rows = [" ".join(map(repr, map(float, row))) for row in POINTS]
    np.save(folder / "a.npy", POINTS)
    np.save(folder / "b.npy", more.astype(np.float64))
    np.save(folder / "c.npy", POINTS.T)
    np.savez(folder / "d.npz", anything=POINTS)
    np.savez(folder / "e.npz", label=3, points=more)
    properties = "property double x\nproperty double y\nproperty double z\nproperty uchar red\n"
    header = f"ply\nformat ascii 1.0\nelement vertex 40\n{properties}end_header\n"
    return [
        *(folder / name for name in ("a.npy", "b.npy", "c.npy", "d.npz", "e.npz")),
        write(folder / "f.xyz", "\n".join(rows)),
        write(folder / "g.txt", "\n".join(",".join([*row.split(), "0.1", "label"]) for row in rows) + "\n\n"),
        write(folder / "h.txt", "\ufeff//X Y Z\n40\n" + "\r\n".join(rows)),
        write(folder / "i.txt", "# by hand\nx y z\n" + "\n".join(f"{row} ; 7" for row in rows)),
        write(folder / "j.ply", header + "\n".join(f"{row} 200" for row in rows)),
    ]


def test_clouds_are_the_numbers_of_the_file(tmp_path: Path) -> None:
    centred = POINTS - POINTS.mean(axis=0)
    expected = centred / np.linalg.norm(centred, axis=1).max()
    for path in clouds(tmp_path):
        points, triangles = read_shape(path)
        assert triangles is None
        np.testing.assert_allclose(points, POINTS, rtol=1e-12, err_msg=path.name)
        cloud = read_cloud(path, 16)
        order = np.lexsort(cloud.numpy()), np.lexsort(expected.T)
        np.testing.assert_allclose(cloud.numpy().T[order[0]], expected[order[1]], atol=1e-6)


def test_coordinates_far_from_the_origin_keep_their_digits(tmp_path: Path) -> None:
    np.save(tmp_path / "near.npy", POINTS)
    near = read_cloud(tmp_path / "near.npy", 16)
    np.save(tmp_path / "near.npy", POINTS + 5e6)  # metres of a national grid
    assert (read_cloud(tmp_path / "near.npy", 16) - near).abs().max() < 1e-6


def test_samples_are_a_fixed_part_to_test_on_and_a_random_one_to_train_on(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(1).normal(size=(3000, 3)))
    (tmp_path / "b.off").write_text(TETRAHEDRON)
    samples = [(tmp_path / "a.npy", 1), (tmp_path / "b.off", 0)]
    data = ShapeFiles(samples, ("x", "y"), points=100)
    assert [label for _, label in data] == [1, 0]
    assert all(cloud.shape == (3, 100) for cloud, _ in data)
    assert data[0][0].equal(read_cloud(tmp_path / "a.npy", 100)[:, :100])
    varied = ShapeFiles(samples, ("x", "y"), points=100, augment=True)
    first = varied[0][0]
    varied.set_epoch(1)
    assert not varied[0][0].equal(first)
    assert varied[0][0].shape == (3, 100)


def test_a_small_cloud_repeats_its_points(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", POINTS)
    for augment in (False, True):
        cloud, _ = ShapeFiles([(tmp_path / "a.npy", 0)], ("x", "y"), points=100, augment=augment)[0]
        assert cloud.shape == (3, 100)
        counts = cloud.unique(dim=1, return_counts=True)[1]
        assert len(counts) == 40
        assert set(counts.tolist()) <= ({2, 3} if not augment else {1, 2, 3})


def test_a_mesh_gives_the_sample_that_modelnet_has_of_it(tmp_path: Path) -> None:
    for name in ModelNet10.CLASSES:
        path = tmp_path / "ModelNet10" / name / "test" / "a.off"
        path.parent.mkdir(parents=True)
        path.write_text(TETRAHEDRON)
    expected = ModelNet10(tmp_path, "test", points=64)[0][0]
    found = read_sample(tmp_path / "ModelNet10" / "bed" / "test" / "a.off", "modelnet10", (3, 64))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.ply", "<html>", "a.ply is no readable PLY file: Not a ply file"),
        ("a.stl", b"\0" * 90, "a.stl is no readable STL file: it has no faces"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "a.obj is no readable OBJ file: it has no faces"),
        ("a.off", "OFF\n1 1 0\n", "a.off is no readable OFF mesh"),
        ("a.txt", "This folder holds chairs\nand tables\nof wood\nin it\n", "a.txt is no readable TXT file"),
        ("a.xyz", "", "a.xyz is no readable XYZ file: no line holds x, y, z"),
        ("a.xyz", "0 0 0\n1 1\n", "a.xyz is no readable XYZ file: invalid column index 2 at row 2 with 2 columns"),
        ("a.xyz", "0 0 0\n1 nan 1\n", r"a.xyz holds coordinates that are not finite.*: point 2 is \[1.0, nan, 1.0\]"),
        ("a.npy", b"", "a.npy is no readable NPY file"),
        ("a.npz", b"PK", "a.npz is no readable NPZ file"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(ZooError, match=message):
        read_cloud(write(tmp_path / name, content), 16)


def test_arrays_that_are_no_clouds_are_named(tmp_path: Path) -> None:
    for array, message in (
        (np.zeros((5, 2)), r"it holds float64 \(5, 2\); numbers \(N, 3\)"),
        (np.zeros((2, 5, 3)), r"\(2, 5, 3\)"),
        (np.array([["a", "b", "c"]]), "numbers"),
        (np.zeros((0, 3)), "holds no points"),
    ):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(ZooError, match=message):
            read_shape(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ZooError, match=r"a\.npy is no readable NPY file: .*allow_pickle"):
        read_shape(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", one=POINTS, two=POINTS)
    with pytest.raises(ZooError, match="it holds one, two; name the cloud 'points'"):
        read_shape(tmp_path / "a.npz")
