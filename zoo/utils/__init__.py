"""Files, locks and seeds: what every other package builds on. Imports no torch."""

from zoo.utils.files import check_folder, expanded, new_file, sha256_of, sweep, sync_folder
from zoo.utils.locks import locked
from zoo.utils.malloc import keep_freed_memory
from zoo.utils.seeds import LARGEST, check_seed, seed_of

__all__ = [
    "LARGEST",
    "check_folder",
    "check_seed",
    "expanded",
    "keep_freed_memory",
    "locked",
    "new_file",
    "seed_of",
    "sha256_of",
    "sweep",
    "sync_folder",
]
