"""Meshes and clouds that claim too much, name other files or are damaged: one error each, in little time and memory."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from fuzzing import CASES, fuzz, measured_peak, through_file
from own_files import TETRAHEDRON, box

from zoo.datasets.folder.readers import read_shape
from zoo.datasets.folder.shape_files import ShapeFiles, read_cloud
from zoo.errors import ZooError

OFF = [
    TETRAHEDRON.encode(),
    box(1, 2, 3).encode(),
    b"4OFF2 0 0\n# c\n0 0 0 1\n1 1 1 2\n",
    b"COFF\r\n3 1 0\r\n" + b"0 0 1e-3 9 9 9 9\r\n1 0 0\r\n" + b"0 1 1\r\n3 0 1 2 7\r\n",
]
CUBE = trimesh.creation.box((1.0, 2.0, 4.0))
POINTS = np.random.default_rng(0).normal(size=(12, 3)).round(3)


def obj() -> list[bytes]:
    square = "v {0} 0 0\nv {0} 1 0\nv {0} 1 1\nv {0} 0 1\nvt 0 0\nvn 0 0 1\n"
    parts = "mtllib a.mtl\no one\n" + square.format(0) + "usemtl red\nf 1/1/1 2/1/1 3/1/1 4/1/1\no two\n"
    return [
        CUBE.export(file_type="obj").encode(),
        (parts + square.format(2) + "f -4 -3 -2\nf 5//1 6//1 7//1\n").encode(),
    ]


def stl() -> list[bytes]:
    return [CUBE.export(file_type="stl"), CUBE.export(file_type="stl_ascii").encode()]


def ply() -> list[bytes]:
    coloured = CUBE.copy()
    coloured.visual.vertex_colors = np.arange(32, dtype=np.uint8).reshape(8, 4)
    mixed = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    mixed += "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    mixed += "0 0 0\n1 0 0\n1 1 0\n0 1 1\n3 0 1 2\n4 0 1 2 3\n"
    cloud = trimesh.PointCloud(POINTS).export(file_type="ply")
    return [coloured.export(file_type="ply"), coloured.export(file_type="ply", encoding="ascii"), cloud, mixed.encode()]


def text() -> list[bytes]:
    rows = "\n".join(" ".join(map(str, row)) for row in POINTS.tolist())
    return [rows.encode(), f"\ufeff//X Y Z\n12\n{rows}".encode(), b"# c\nx,y,z\n" + rows.replace(" ", ",").encode()]


def numpy(*, packed: bool) -> list[bytes]:
    found = []
    for array in (POINTS, POINTS.T.astype(np.float32), np.asfortranarray(POINTS * 100).astype(">i2")):
        stream = io.BytesIO()
        if packed:
            np.savez_compressed(stream, points=array, label=3)
        else:
            np.save(stream, array)
        found.append(stream.getvalue())
    return found


READERS = {
    "off": OFF[:2] + OFF[3:], "obj": obj(), "stl": stl(), "ply": ply(), "xyz": text(), "npy": numpy(packed=False),
    "npz": numpy(packed=True),
}  # fmt: skip
WORDS = {
    "off": [b"OFF", b"4", b"\n", b"#", b"nan"], "obj": [b"f ", b"v ", b"/", b"//", b"o a", b"\\\n", b"-1", b"usemtl x"],
    "stl": [b"solid", b"endsolid", b"vertex", b"facet normal"], "xyz": [b"\n", b"#", b"//", b",", b";"],
    "ply": [b"element face 9", b"property list uchar int x", b"property list double double s", b"binary_big_endian"],
    "npy": [b"'<f8'", b"'|O'", b"True", b"(", b"{"], "npz": [b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"],
}  # fmt: skip


@pytest.mark.parametrize("cases", CASES)
@pytest.mark.parametrize("suffix", READERS)
def test_no_file_harms(ram: Path, suffix: str, cases: int) -> None:
    fuzz(through_file(ram / f"a.{suffix}", read_shape), READERS[suffix], cases, words=WORDS[suffix])


@pytest.mark.parametrize("suffix", ["off", "obj"])
def test_no_file_harms_what_samples_it(ram: Path, suffix: str) -> None:
    fuzz(through_file(ram / f"a.{suffix}", lambda path: read_cloud(path, 16)), READERS[suffix], 60, words=WORDS[suffix])


def test_a_mesh_is_read_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the materials that it names, which may be pipes or other people's, nor their pictures."""
    asked: list[str] = []
    monkeypatch.setattr(trimesh.resolvers.FilePathResolver, "get", lambda _, name: asked.append(name))
    lines = "mtllib ../../a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nusemtl red\nf 1/1 2/1 3/1\n"
    (tmp_path / "a.obj").write_text(lines)
    whole = CUBE.export(file_type="ply", encoding="ascii").decode()
    (tmp_path / "a.ply").write_text(whole.replace("element v", "comment TextureFile ../../a.png\nelement v", 1))
    assert len(read_shape(tmp_path / "a.obj")[0]) == 3
    assert len(read_shape(tmp_path / "a.ply")[0]) == 8
    assert asked == []


def zipped(path: Path, method: int, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("points.npy", content)
    return path


def test_arrays_that_claim_too_much_are_refused(tmp_path: Path) -> None:
    zeros = io.BytesIO()
    np.save(zeros, np.zeros((2**20, 3)))
    large = (
        np.lib.format.magic(1, 0)
        + b"\x7d\0"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (3000000000000, 3), }".ljust(124)
        + b"\n"
    )
    (tmp_path / "large.npy").write_bytes(large)
    (tmp_path / "ends.npy").write_bytes(large.replace(b"3000000000000", b"300000       "))
    (tmp_path / "third.npy").write_bytes(np.lib.format.magic(3, 0) + large[8:])
    for path, message in [
        (tmp_path / "large.npy", "announces float64 .3000000000000, 3., many more bytes than the file has"),
        (tmp_path / "third.npy", "of version 3 of numpy's format; 1 and 2 are read"),
        (tmp_path / "ends.npy", "announces float64 .300000, 3. and ends after 0 bytes of 7200000"),
        (zipped(tmp_path / "a.npz", zipfile.ZIP_DEFLATED, zeros.getvalue()), "many more bytes than the file has"),
        (zipped(tmp_path / "b.npz", zipfile.ZIP_BZIP2, zeros.getvalue()), "packed by another method than numpy's"),
        (zipped(tmp_path / "c.npz", zipfile.ZIP_LZMA, zeros.getvalue()), "packed by another method than numpy's"),
    ]:
        with (
            measured_peak() as grown,
            pytest.raises(ZooError, match=rf"{path.name} is no readable NP[YZ] file: .*{message}"),
        ):
            read_shape(path)
        assert grown[0] < 2**24


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_header_that_claims_too_much_is_not_read(tmp_path: Path, method: int) -> None:
    """An .npy 2.0 header may say that it has 4 GiB, and is packed a thousandfold."""
    header = np.lib.format.magic(2, 0) + (2**26).to_bytes(4, "little") + b" " * 2**26
    path = zipped(tmp_path / "a.npz", method, header)
    with measured_peak() as grown, pytest.raises(ZooError, match=r"header of 67108864 bytes; 10000 are read"):
        read_shape(path)
    assert grown[0] < 2**24


def test_an_obj_file_of_many_materials_is_read_as_one_part(tmp_path: Path) -> None:
    """Trimesh goes through all 40 000 vertices for each of 500 materials, whose parts would have 3 vertices each."""
    faces = "".join(f"usemtl m{number}\nf 1 2 {number + 3}\n" for number in range(500))
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 1 1\n" * 10_000 + faces)
    vertices, triangles = read_shape(tmp_path / "a.obj")
    assert triangles is not None
    assert len(vertices) == 502
    assert triangles.tolist() == [[0, 1, number + 2] for number in range(500)]


@pytest.mark.parametrize("what", ["many", "other", "header", "zip", "NaN", "infinite", "nothing"])
def test_what_a_folder_keeps_of_its_meshes_is_not_believed(tmp_path: Path, what: str) -> None:
    """The clouds that a foreign folder brings as already sampled: made anew unless they are ones that could be."""
    for name in ("a.off", "b.off"):
        (tmp_path / name).write_text(TETRAHEDRON)
    samples = [(tmp_path / "a.off", 0), (tmp_path / "b.off", 1)]
    clouds = ShapeFiles(samples, ["a", "b"]).clouds
    (kept,) = tmp_path.glob(".zoo-*.npy")
    whole = kept.read_bytes()
    lies = {
        "many": whole.replace(b"(2, 3, 2048), }" + b" " * 12, b"(2, 3, 2048000000000000), }"),
        "other": whole.replace(b"<f4", b"<i4"),
        "header": np.lib.format.magic(2, 0) + b"\xff" * 4 + bytes(2**20),
        "zip": zipped(tmp_path / "a.zip", zipfile.ZIP_STORED, whole).read_bytes(),
        "NaN": whole[:-4] + np.float32("nan").tobytes(),
        "infinite": whole[:-4] + np.float32("-inf").tobytes(),
        "nothing": b"",
    }
    kept.write_bytes(lies[what])
    with measured_peak() as grown:
        again = ShapeFiles(samples, ["a", "b"]).clouds
    assert all(found.equal(cloud) for found, cloud in zip(again, clouds, strict=True))
    assert kept.read_bytes() == whole
    assert grown[0] < 2**26


@pytest.mark.parametrize("suffix", ["off", "obj", "stl", "ply", "xyz", "npy", "npz"])
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    (tmp_path / f"device.{suffix}").symlink_to("/dev/zero")
    for name in ("pipe", "device"):
        with pytest.raises(ZooError, match=rf"cannot read .*{name}\.{suffix}: it is no ordinary file"):
            read_shape(tmp_path / f"{name}.{suffix}")


def test_damage_within_a_mesh_is_found(tmp_path: Path) -> None:
    """Neither faces of vertices that are not there, nor lines that numpy reads up to the damage."""
    square = "v 0 0 0\nv 1 0 0\nv 1 1 0\n"
    header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n1 1 0\n"
    for name, content in [
        ("a.obj", square + "f 1 2 9\n"),
        ("b.obj", square + "f 1 2 x\n"),
        ("c.obj", square + "f 1 2\n"),
        ("a.ply", header + "3 0 1 9\n"),
        ("b.ply", header + "3 0 1 -1\n"),
        ("c.ply", header.replace("1 1 0", "1 l 0") + "3 0 1 2\n"),
    ]:
        (tmp_path / name).write_text(content)
        with pytest.raises(ZooError, match=rf"{name} is no readable"):
            read_shape(tmp_path / name)
