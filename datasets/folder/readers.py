"""Files of meshes and clouds as arrays, read with trimesh and numpy.

What a file announces is checked before memory follows it, and a file is read alone: not the materials, pictures or data
that it names.
"""

from __future__ import annotations

import io
import itertools
import logging
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from zoo.datasets.files import LARGEST, array_limit, check_regular, read_npy, read_off
from zoo.datasets.folder.listing import SHAPE_SUFFIXES
from zoo.errors import ZooError, excerpt, first_line
from zoo.utils import read_file

_LIMIT = 2**30  # bytes of a file that is read whole
_HEADER = 2  # lines before the numbers of a text file: a title, the number of points, the names of columns
_KEYS = ("points", "pos", "xyz", "pc", "point_cloud", "vertices", "data")  # usual names of the cloud in an .npz file

logging.getLogger("trimesh").addHandler(logging.NullHandler())  # else it prints colours that it cannot read


def read_shape(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Points float64 (V, 3) of a file, and triangles int64 (F, 3) if it is a mesh.

    Raises ZooError, with the path, for a file that cannot be read, has no points, or one that is not finite.
    """
    suffix, triangles = path.suffix.lower(), None
    if suffix not in SHAPE_SUFFIXES:
        raise ZooError(f"{path} is no shape; read are {', '.join(sorted(SHAPE_SUFFIXES))}")
    check_regular(path)
    try:
        if suffix == ".off":
            points, triangles = read_off(path)
        elif suffix in (".npy", ".npz"):
            points = _from_numpy(path)
        elif suffix in (".xyz", ".txt"):
            points = _from_text(path)
        else:
            points, triangles = _from_trimesh(path, suffix)
    except ZooError:
        raise
    except Exception as error:  # trimesh's parser of each format raises what it happens to meet
        raise ZooError(f"{path} is no readable {suffix[1:].upper()} file: {first_line(error)}") from error
    if not len(points):
        raise ZooError(f"{path} holds no points")
    bad = ~(np.abs(points) <= LARGEST).all(axis=1)
    if bad.any():
        where = f"point {int(bad.argmax()) + 1} is {points[bad][0].tolist()}"
        raise ZooError(f"{path} holds coordinates that are not finite, or beyond {LARGEST:g}: {where}")
    return points, triangles


def _from_numpy(path: Path) -> np.ndarray:
    limit = array_limit(path)
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            file.seek(0)
            return _from_npy(file, limit)
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            names = [name for name in (*_KEYS, *members) if name in members]
            if not names or (len(members) > 1 and names[0] not in _KEYS):
                raise ValueError(f"it holds {excerpt(', '.join(members) or 'nothing', str)}; name the cloud 'points'")
            if members[names[0]].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("it is packed by another method than numpy's; write it with numpy.savez_compressed")
            with archive.open(members[names[0]]) as member:
                return _from_npy(member, limit)


def _from_npy(file: IO[bytes], limit: int) -> np.ndarray:
    def fits(shape: tuple[int, ...], kind: np.dtype) -> bool:
        return len(shape) == 2 and kind.kind in "fiu" and (shape[1] >= 3 or shape[0] == 3)

    cloud = read_npy(file, limit, fits, "numbers (N, 3), or more columns, were")
    cloud = cloud.T if cloud.shape[0] == 3 != cloud.shape[1] else cloud
    return np.asarray(cloud[:, :3], dtype=np.float64)


def _from_text(path: Path) -> np.ndarray:
    text = read_file(path, limit=_LIMIT).decode("utf-8-sig", errors="replace").replace(",", " ").replace(";", " ")
    lines = [line for line in text.splitlines() if line.split("#")[0].strip() and not line.startswith("//")]
    for _ in range(_HEADER):
        if lines and not _is_point(lines[0]):
            del lines[0]
    if not lines:
        raise ValueError("no line holds x, y, z")
    return np.loadtxt(io.StringIO("\n".join(lines)), usecols=(0, 1, 2), ndmin=2)


def _is_point(line: str) -> bool:
    try:
        return len([float(word) for word in line.split(maxsplit=3)[:3]]) == 3
    except ValueError:
        return False


def _from_trimesh(path: Path, suffix: str) -> tuple[np.ndarray, np.ndarray | None]:
    # Imported here because that takes a second. A trimesh.Scene of the parts would take a second for thousands of them.
    from trimesh.exchange.load import mesh_loaders
    from trimesh.geometry import triangulate_quads

    # Bytes have no name. With one, trimesh would open the materials and pictures that a mesh names, wherever they lie.
    content = read_file(path, limit=_LIMIT)
    if suffix == ".obj":
        content = _of_few_materials(content)
    with warnings.catch_warnings():  # numpy reads a damaged line up to the damage, and warns
        warnings.filterwarnings("error", "string or file could not be read", DeprecationWarning)
        load: Any = mesh_loaders[suffix[1:]]
        loaded = load(io.BytesIO(content), file_type=suffix[1:], skip_materials=True)
    parts = [part for part in loaded.get("geometry", {"": loaded}).values() if len(part.get("vertices", ()))]
    meshes = [part for part in parts if part.get("faces") is not None and len(part["faces"])]
    if not meshes and suffix != ".ply":
        raise ValueError("it has no faces; save a cloud as PLY, XYZ or NPY")
    places = [np.asarray(part["vertices"], dtype=np.float64) for part in meshes or parts]
    faces = [np.asarray(triangulate_quads(mesh["faces"]), dtype=np.int64) for mesh in meshes]
    if any(vertices.shape[1:] != (3,) for vertices in places):
        raise ValueError("it has vertices of other than three coordinates")
    for vertices, corners in zip(places, faces, strict=False):
        if corners.shape[1:] != (3,):
            raise ValueError("it has faces that are no triangles")
        if not 0 <= corners.min() <= corners.max() < len(vertices):
            raise ValueError(f"a face names a vertex that is not there; {len(vertices)} are")
    starts = itertools.accumulate(map(len, places), initial=0)
    triangles = np.concatenate([face + start for face, start in zip(faces, starts, strict=False)]) if faces else None
    return np.concatenate(places or [np.empty((0, 3))]), triangles


def _of_few_materials(content: bytes) -> bytes:
    """An OBJ file's content without materials, if they are many: trimesh goes through all vertices for each of them."""
    joined = content.replace(b"\r\n", b"\n").replace(b"\\\n", b"")
    many = joined.count(b"usemtl ") * len(joined) > _LIMIT // 8
    return joined.replace(b"usemtl ", b"# ") if many else content
