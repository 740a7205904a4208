"""Files as people have them: which files of a folder are data, images as RGB, OFF meshes as arrays. No torch."""

from __future__ import annotations

from zoo.datasets.files.images import IMAGE_SUFFIXES, open_image
from zoo.datasets.files.listing import is_junk, list_files, list_folders
from zoo.datasets.files.off import LARGEST, read_off

__all__ = ["IMAGE_SUFFIXES", "LARGEST", "is_junk", "list_files", "list_folders", "open_image", "read_off"]
