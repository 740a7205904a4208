"""Point clouds as text, one point a line: x y z first, with commas or spaces, other columns ignored."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from zoo.datasets.files.listing import check_regular
from zoo.datasets.files.off import LARGEST
from zoo.errors import ZooError, first_line


def read_text_cloud(path: Path, limit: int | None = None) -> np.ndarray:
    """The first `limit` points of a file (None: all), float64 (n, 3), n at least 1.

    Blank lines, comments and a byte-order mark are skipped. Raises ZooError with the file and the line if that is no
    point, or a coordinate is not finite or beyond `LARGEST`.
    """
    check_regular(path)
    points: list[list[float]] = []
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            lines = ((number, line.split("#", 1)[0]) for number, line in enumerate(file, start=1))
            for number, line in itertools.islice(((n, text) for n, text in lines if text.strip()), limit):
                try:
                    point = [float(word) for word in line.replace(",", " ").replace(";", " ").split(maxsplit=3)[:3]]
                except ValueError as error:
                    raise ZooError(f"{path}, line {number}, holds no point: {first_line(error)}") from error
                if len(point) < 3 or not all(abs(value) <= LARGEST for value in point):
                    raise ZooError(
                        f"{path}, line {number}, holds {line.strip()[:60]!r}; three coordinates were expected, finite "
                        f"and at most {LARGEST:g}"
                    )
                points.append(point)
    except OSError as error:
        raise ZooError(f"cannot read {path}: {error.strerror or error}") from error
    if not points:
        raise ZooError(f"{path} holds no point")
    return np.array(points)
