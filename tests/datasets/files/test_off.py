"""OFF files in the variants of the format, against one tetrahedron; and what is broken, by file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.datasets.files import read_off
from zoo.datasets.meshes import read_mesh, sample_mesh
from zoo.errors import ZooError

PLACES = ["0 0 0", "1 0 0", "0 1 0", "0 0 1"]
FACES = ["3 0 1 2", "3 0 1 3", "3 0 2 3", "3 1 2 3"]


def text(header: str = "OFF\n4 4 0", extra: str = "", colour: str = "") -> str:
    return "\n".join([header, *(place + extra for place in PLACES), *(face + colour for face in FACES)]) + "\n"


VARIANTS = {
    "plain": text(),
    "one line": text("OFF 4 4 0"),
    "one line, no space": text("OFF4 4 0"),
    "no keyword": text("4 4 0"),
    "no edges": text("OFF\n4 4"),
    "byte-order mark": "\ufeff" + text(),
    "byte-order mark, no keyword": "\ufeff" + text("4 4 0"),
    "lower case": text("off\n4 4 0"),
    "mixed case": text("Off 4 4 0"),
    "colours": text("COFF\n4 4 0", " 255 0 0 255"),
    "colours as floats": text("COFF\n4 4 0", " 0.5 0.5 0.5 1"),
    "colours without a prefix": text("OFF\n4 4 0", " 255 0 0"),
    "normals": text("NOFF\n4 4 0", " 0 0 1"),
    "normals, lower case": text("noff\n4 4 0", " 0 0 1"),
    "texture": text("STOFF\n4 4 0", " 0.5 0.5"),
    "homogeneous": text("4OFF\n4 4 0", " 1"),
    "all": text("STCN4OFF 4 4 0", " 1 0 0 1 255 0 0 255 0.5 0.5"),
    "coloured faces": text(colour=" 255 0 0"),
    "colour map index": text(colour=" 7"),
    "comments": "# by hand\n" + text("OFF # a mesh\n\n# counts\n4 4 6 # three numbers", " # a vertex"),
    "CRLF": text().replace("\n", "\r\n"),
    "tabs and blank lines": text().replace(" ", "\t").replace("\n", " \n\n"),
    "no last line end": text().rstrip(),
    "exponents": text().replace("1 0 0", "1e0 0.0 -0.E+00", 1),
    "points and edges as faces": text("OFF\n4 6 0").replace("3 0 1 2\n", "1 0\n2 0 1\n3 0 1 2\n"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_the_format_give_the_same_mesh(tmp_path: Path, variant: str) -> None:
    path = tmp_path / "a.off"
    path.write_bytes(VARIANTS[variant].encode("utf-8"))
    vertices, triangles = read_off(path)
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert triangles.tolist() == [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
    assert (vertices.dtype, triangles.dtype) == (np.float64, np.int64)
    as_tensors = read_mesh(path)
    assert as_tensors[0].dtype == torch.float32
    assert as_tensors[0].tolist() == vertices.tolist()
    assert as_tensors[1].T.tolist() == triangles.tolist()


def test_utf_16_from_a_windows_shell(tmp_path: Path) -> None:
    (tmp_path / "a.off").write_bytes(text().encode("utf-16"))
    assert len(read_off(tmp_path / "a.off")[1]) == 4


def test_homogeneous_coordinates_are_divided(tmp_path: Path) -> None:
    (tmp_path / "a.off").write_text("4OFF\n3 1 0\n2 4 6 2\n0 1 0 1\n1 0 0 0.5\n3 0 1 2\n")
    assert read_off(tmp_path / "a.off")[0].tolist() == [[1, 2, 3], [0, 1, 0], [2, 0, 0]]


@pytest.mark.parametrize("corners", [4, 5, 8])
def test_a_polygon_becomes_triangles_of_the_same_area(tmp_path: Path, corners: int) -> None:
    angle = 2 * np.pi * np.arange(corners) / corners
    places = "\n".join(f"{np.cos(a):.9f} {np.sin(a):.9f} 0" for a in angle)
    (tmp_path / "a.off").write_text(f"OFF\n{corners} 1 0\n{places}\n{corners} {' '.join(map(str, range(corners)))}\n")
    vertices, triangles = read_off(tmp_path / "a.off")
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    assert len(triangles) == corners - 2
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    assert area == pytest.approx(corners / 2 * np.sin(2 * np.pi / corners), rel=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it is empty"),
        ("# nothing\n", "it is empty"),
        ("OFF\n", "line 2 was expected to hold the numbers of vertices and faces"),
        ("ply\nformat ascii 1.0\n", "line 1 was expected to hold OFF, or the numbers"),
        ("OFF\nfour 4 0\n", "line 2 was expected to hold the numbers"),
        ("OFF BINARY\n\0\0\0\4", "line 1 announces 'OFF BINARY"),
        (text("nOFF\n3\n4 4 0"), "line 1 announces 'nOFF'"),
        (text("OFF\n4 9 0"), "4 vertices and 9 faces are announced, 8 lines follow"),
        (text("OFF\n999999999999 4 0"), "999999999999 vertices and 4 faces are announced, 8 lines follow"),
        (text().replace("1 0 0", "inf 0 0", 1), "line 4 holds the vertex inf 0 0; coordinates are finite"),
        (text().replace("1 0 0", "nan 0 0", 1), "line 4 holds the vertex nan 0 0; coordinates are finite"),
        (text("# a\n\nOFF\n4 4 0").replace("1 0 0", "1 0 1e30", 1), "line 6 .* at most 1e[+]12"),
        (text().replace("1 0 0", "1 0 1e999", 1), "line 4 holds the vertex 1 0 1e999"),
        (text("4OFF\n4 4 0", " 0"), "line 3 holds the vertex 0 0 0 0; coordinates are finite"),
        (text().replace("1 0 0", "1 two 0", 1), "line 4 holds no vertex: .*two"),
        (text().replace("1 0 0", "1 0", 1), "line 4 has 2 of the 3 coordinates"),
        (text().replace("3 0 1 3", "3 0 1 4"), "line 8: a face names a vertex that is not there; 4 are"),
        (text().replace("3 0 1 3", "3 0 1 -1"), "line 8: a face names a vertex that is not there"),
        (text().replace("3 0 1 3", "4 0 1 3"), "line 8 announces a face of 4 corners and names 3"),
        (text().replace("3 0 1 3", "-3 0 1 3"), "line 8 announces a face of -3 corners"),
        (text().replace("3 0 1 3", "3 0 1 x"), "line 8 holds no face: .*'x'"),
        ("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "no faces of three corners"),
        ("OFF\n0 0 0\n", "no faces of three corners"),
    ],
)
def test_what_is_broken_is_named_by_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.off").write_text(content)
    with pytest.raises(ZooError, match=rf"a\.off is no readable OFF mesh: .*{message}") as error:
        sample_mesh(tmp_path / "a.off", 16, name="a")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("places", ["0 0 0\n1 0 0\n2 0 0\n", "1 1 1\n" * 3, "0 0 0\n1e5 1e-3 7\n2e5 2e-3 14\n"])
def test_a_shape_without_area_is_named(tmp_path: Path, places: str) -> None:
    (tmp_path / "flat.off").write_text(f"OFF\n3 1 0\n{places}3 0 1 2\n")
    with pytest.raises(ZooError, match=r"flat\.off has no surface to sample: none of its 1 triangles has an area"):
        sample_mesh(tmp_path / "flat.off", 16, name="flat")


@pytest.mark.parametrize("scale", [1e-10, 1.0, 9e11])
def test_small_and_large_shapes_are_sampled(tmp_path: Path, scale: float) -> None:
    places = "".join(" ".join(str(scale * float(x)) for x in place.split()) + "\n" for place in PLACES)
    (tmp_path / "a.off").write_text(f"OFF\n4 4 0\n{places}" + "\n".join(FACES))
    cloud = sample_mesh(tmp_path / "a.off", 500, name="a")
    assert cloud.isfinite().all()
    assert cloud.norm(dim=0).max() == pytest.approx(1, abs=1e-5)
