"""Files of one's own as samples: folders with one sub-folder per class, and single files.

`listing` finds the files of a folder, `readers` reads meshes and clouds, both without torch; `shape_files` samples
them, `dataset` registers the data set "folder", and `given_files` prepares single files as the samples of a data set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.datasets.folder.listing import Listing, check_file, list_folder, user_folder_listing
from zoo.utils import lazy_imports

if TYPE_CHECKING:
    from zoo.datasets.folder.given_files import read_sample

__getattr__ = lazy_imports(__name__, __file__)
__all__ = ["Listing", "check_file", "list_folder", "read_sample", "user_folder_listing"]
