"""Files as people have them: which files of a folder are data, lists, images as RGB, clouds and meshes as arrays."""

from __future__ import annotations

from zoo.datasets.files.flat_folder import ILSVRC_VAL, UNPACK, flat_images
from zoo.datasets.files.hdf5 import class_numbers, open_hdf5
from zoo.datasets.files.images import IMAGE_SUFFIXES, open_image
from zoo.datasets.files.listing import array_limit, check_regular, is_junk, list_files, list_folders
from zoo.datasets.files.lists import listed_file, read_lines
from zoo.datasets.files.npy import read_npy
from zoo.datasets.files.off import LARGEST, read_off
from zoo.datasets.files.text_clouds import read_text_cloud

__all__ = [
    "ILSVRC_VAL", "IMAGE_SUFFIXES", "LARGEST", "UNPACK", "array_limit", "check_regular", "class_numbers", "flat_images",
    "is_junk", "list_files", "list_folders", "listed_file", "open_hdf5", "open_image", "read_lines", "read_npy",
    "read_off", "read_text_cloud",
]  # fmt: skip
