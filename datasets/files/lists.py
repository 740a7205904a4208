"""Text files that list something, one entry a line: names of classes, samples, or other files."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

from zoo.errors import ZooError
from zoo.utils import read_file

_LIMIT = 2**28  # bytes of a list


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that hold something, without the spaces around them; line ends of any system."""
    try:
        lines = read_file(path, limit=_LIMIT).decode("utf-8-sig").splitlines()
    except (ZooError, OSError, ValueError) as error:
        raise ZooError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    return [line.strip() for line in lines if line.strip()]


def listed_file(folder: Path, line: str) -> Path:
    """The file that a line of a list in `folder` names, with slashes or backslashes.

    The lists of published data hold paths as they were on their authors' machine. So a path is taken as it stands,
    relative to `folder`, then without its first part, without its first two, and so on, and never one that leads out of
    `folder`. Where none of these is a file, the last is returned: the name alone.
    """
    parts = PureWindowsPath(line).parts
    places = [folder / line, *(folder.joinpath(*parts[start:]) for start in range(len(parts)))]
    within = [place for place in places if Path(os.path.abspath(place)).is_relative_to(os.path.abspath(folder))]
    return next((place for place in within if place.is_file()), places[-1])
