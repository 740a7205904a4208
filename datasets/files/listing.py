"""Which entries of a data folder are data: what file managers and archives leave behind is skipped everywhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from zoo.errors import ZooError

# In lower case. `@eaDir` holds a NAS's thumbnails, which would pass for images.
_JUNK = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found"}


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is no data: `._name.off`, `.DS_Store`, `Thumbs.db`, `__MACOSX`, ..."""
    return name.startswith(".") or name.lower() in _JUNK


def list_folders(folder: Path) -> list[Path]:
    """The sub-folders that hold data, sorted by name; none where `folder` is no folder."""
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if not is_junk(entry.name) and entry.is_dir())


def list_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The data files at any depth with one of the `suffixes` (lower case, with the dot), sorted by path.

    Links to folders are followed, as torchvision's ImageFolder does, but every folder is visited once: links may lead
    in circles. None where `folder` is no folder.
    """
    found, visited = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in visited:
            folders.clear()
            continue
        visited.add(real)
        names = sorted(name for name in folders if not is_junk(name))
        folders[:] = sorted(names, key=lambda name: os.path.islink(f"{place}/{name}"))  # a folder before links to it
        found += [Path(place, name) for name in files if not is_junk(name)]
    return sorted(path for path in found if path.suffix.lower() in suffixes)


def check_regular(path: Path) -> None:
    """Raise ZooError unless `path` is a file with an end: a pipe would be waited for, a device read for ever."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise ZooError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(mode):
        raise ZooError(f"cannot read {path}: it is no ordinary file")


def array_limit(path: Path) -> int:
    """How many bytes an array may have that a file announces: 16 times those of the file, and 16 MiB in any case.

    Coordinates are packed to half of their size, or less where most are alike; an attacker packs zeros a thousandfold.
    """
    return 16 * path.stat().st_size + 2**24
