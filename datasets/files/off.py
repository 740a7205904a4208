"""OFF meshes (Object File Format, Geomview's manual), in the variants that are found in data sets.

The keyword may be missing, in lower case, on one line with the counts ('OFF490 518 0', as in ModelNet40), and prefixed
by ST, C, N and 4. Other readers take one or two of these, or give no line number.
"""

from __future__ import annotations

import codecs
import itertools
import re
from pathlib import Path

import numpy as np

from zoo.errors import ZooError, excerpt, first_line
from zoo.utils import read_file

LARGEST = 1e12  # coordinates beyond it are an error: the squares of their squares leave float32's range

_LIMIT = 2**30  # bytes of a mesh
_KEYWORD = re.compile(r"((?:ST|C|N|4)*)OFF", re.IGNORECASE)
_Row = tuple[int, list[str]]  # the number of a line, and its words


def read_off(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float64 (V, 3) and triangles int64 (F, 3), F at least 1, of an OFF file.

    A face of more than three corners is cut into triangles as a fan, which is right for convex ones. Normals, colours,
    texture coordinates, edges and comments are ignored; homogeneous coordinates (4OFF) are divided by the fourth.

    Raises ZooError with the file and the line if it is broken, or has a coordinate that is not finite or beyond
    LARGEST.
    """
    try:
        return _parse(_rows(path))
    except (ZooError, ValueError, OSError) as error:
        raise ZooError(f"{path} is no readable OFF mesh: {first_line(error)}") from error


def _rows(path: Path) -> list[_Row]:
    """The lines that hold something, without comments and the byte-order mark."""
    content = read_file(path, limit=_LIMIT)
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if wide else "utf-8-sig", errors="replace")
    numbered = ((number, line.split("#", 1)[0].split()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, words) for number, words in numbered if words]


def _parse(rows: list[_Row]) -> tuple[np.ndarray, np.ndarray]:
    if not rows:
        raise ValueError("it is empty")
    number, words = rows[0]
    prefix = ""
    if keyword := _KEYWORD.match(words[0]):
        prefix = keyword[1].upper()
        if words[0] == "nOFF" or "BINARY" in (word.upper() for word in words[1:]):
            announced = excerpt(" ".join(words))
            raise ValueError(f"line {number} announces {announced}; text in three dimensions was expected")
        rest = [word for word in (words[0][keyword.end() :], *words[1:]) if word]
        rows = [(number, rest), *rows[1:]] if rest else rows[1:]
    if not rows or not all(word.isdecimal() for word in rows[0][1][:2]) or len(rows[0][1]) < 2:
        what = "the numbers of vertices and faces" if keyword else "OFF, or the numbers of vertices and faces,"
        raise ValueError(f"line {rows[0][0] if rows else number + 1} was expected to hold {what} and does not")
    vertices, faces = (int(word) for word in rows[0][1][:2])
    if len(rows) - 1 < vertices + faces:
        announced = f"{excerpt(vertices)} vertices and {excerpt(faces)} faces"
        raise ValueError(f"{announced} are announced, {len(rows) - 1} lines follow")
    places = _vertices(rows[1 : 1 + vertices], homogeneous="4" in prefix)
    return places, _triangles(rows[1 + vertices : 1 + vertices + faces], vertices)


def _vertices(rows: list[_Row], *, homogeneous: bool) -> np.ndarray:
    columns = 4 if homogeneous else 3
    for number, words in rows:
        if len(words) < columns:
            raise ValueError(f"line {number} has {len(words)} of the {columns} coordinates of a vertex")
    try:
        places = np.array([words[:columns] for _, words in rows], dtype=np.float64).reshape(-1, columns)
    except ValueError:
        for number, words in rows:
            _floats(number, words[:columns])
        raise
    if homogeneous:
        with np.errstate(divide="ignore", invalid="ignore"):
            places = places[:, :3] / places[:, 3:]
    fits = (np.abs(places) <= LARGEST).all(axis=1)  # NaN does not
    if not fits.all():
        number, words = rows[int(fits.argmin())]
        vertex = excerpt(" ".join(words[:columns]), str)
        raise ValueError(f"line {number} holds the vertex {vertex}; coordinates are finite, and at most {LARGEST:g}")
    return places


def _floats(number: int, words: list[str]) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise ValueError(f"line {number} holds no vertex: {error}") from error


def _triangles(rows: list[_Row], vertices: int) -> np.ndarray:
    triangles: list[tuple[int, int, int]] = []
    for number, words in rows:
        try:
            count = int(words[0])
            corners = [int(word) for word in words[1 : 1 + max(count, 0)]]
        except ValueError as error:
            raise ValueError(f"line {number} holds no face: {error}") from error
        if count < 1 or len(corners) < count:
            raise ValueError(f"line {number} announces a face of {excerpt(count)} corners and names {len(corners)}")
        if not 0 <= min(corners) <= max(corners) < vertices:
            raise ValueError(f"line {number}: a face names a vertex that is not there; {vertices} are, counted from 0")
        triangles += [(corners[0], b, c) for b, c in itertools.pairwise(corners[1:])]
    if not triangles:
        raise ValueError("it has no faces of three corners or more")
    return np.array(triangles, dtype=np.int64)
