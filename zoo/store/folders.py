"""The folders of entries: those shipped with the package, the user's own, and the downloaded ones.

Each holds ``<name>.json``, the card of an entry, beside the checkpoint file that the card names.
"""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path

from zoo.errors import ZooError
from zoo.store.mirrors import INDEX
from zoo.utils import expand_path

_LOG = logging.getLogger("zoo")
SHIPPED, OWN, DOWNLOADED = "shipped", "your own", "downloaded"
CLONE_MIRROR = Path(__file__).parents[2] / "mirror"
PACKAGE_DIR = Path(__file__).parents[1] / "checkpoints"


def home() -> Path:
    """The folder of everything that is not shipped: ``ZOO_HOME``, or the system's folder for a user's data."""
    if folder := os.environ.get("ZOO_HOME"):
        return expand_path(folder)
    from platformdirs import user_data_path

    return user_data_path("pruned-zoo", appauthor=False)


def package_dir() -> Path:
    """The folder of the entries that come with the package."""
    return PACKAGE_DIR


def clone_mirror() -> list[str]:
    """The folder `mirror` of the repository, if the package runs from a clone of it; as short as it can be written."""
    folder = CLONE_MIRROR
    if not (folder / INDEX).is_file():
        return []
    short = os.path.relpath(folder)
    return [str(folder) if short.startswith("..") else short]


def user_dir() -> Path:
    """The folder of the user's own entries."""
    return home() / "own"


def cache_dir() -> Path:
    """The folder of the downloaded entries."""
    return home() / "cache"


def entry_folders() -> dict[str, Path]:
    """What the entries of a folder are called -> the folder, in the order in which an entry is looked up.

    Where ``ZOO_HOME`` names no folder, those that are shipped stay, and a warning says why.
    """
    try:
        return {SHIPPED: package_dir(), OWN: user_dir(), DOWNLOADED: cache_dir()}
    except ZooError as error:
        warn_once(f"ZOO_HOME: {error}")
        return {SHIPPED: package_dir()}


def is_shipped(name: str) -> bool:
    """Whether an entry of this full name comes with the package."""
    return (package_dir() / f"{name}.json").exists()


def is_user_entry(name: str) -> bool:
    """Whether the user's own folder holds an entry of this full name."""
    return is_file(user_dir() / f"{name}.json")


def is_downloaded(name: str) -> bool:
    """Whether an entry of this full name is neither shipped nor the user's own."""
    return not (is_shipped(name) or is_user_entry(name))


def card_files(folder: Path) -> list[Path]:
    """The files of a folder that should be cards, sorted by name: hidden files and a mirror's index are not among them.

    Raises:
        ZooError: the folder cannot be read.
    """
    return [folder / f"{name}.json" for name in card_names(folder)]


def card_names(folder: Path) -> list[str]:
    """The names of the entries that these are the cards of."""
    try:
        files = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ZooError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    names = (file.removesuffix(".json") for file in files if file.endswith(".json") and file != INDEX)
    return sorted(name for name in names if not name.startswith("."))


def is_file(path: Path) -> bool:
    """Whether there is such a file, as far as one can see: a folder that cannot be read holds none."""
    try:
        return path.is_file()
    except OSError:
        return False


@functools.cache
def warn_once(text: str) -> None:
    """Log a warning, but not again what was said before: one command looks into the same folders several times."""
    _LOG.warning("%s", text)
