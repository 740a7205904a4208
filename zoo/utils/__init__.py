"""Files, locks and seeds: what every other package builds on. Imports no torch."""

from zoo.utils.declarations import decorator_calls
from zoo.utils.files import (
    check_folder,
    expand_path,
    new_file,
    read_file,
    read_json,
    remove_stale_files,
    sha256_of,
    sync_folder,
)
from zoo.utils.json_text import parse_json
from zoo.utils.lazy import lazy_imports
from zoo.utils.locks import LOCKS, locked
from zoo.utils.malloc import keep_freed_memory
from zoo.utils.output import make_streams_visible, say, visible_streams
from zoo.utils.plugins import load_plugins
from zoo.utils.progress import progress_bar
from zoo.utils.seeds import MAX_SEED, check_seed, derive_seed, generator_for
from zoo.utils.settings import parse_setting, setting_types, settings_of, with_settings
from zoo.utils.stored_zip import check_stored, open_zip
from zoo.utils.weights_file import (
    WEIGHTS_SUFFIXES,
    check_format,
    checkpoint_header,
    convert_command,
    weights_format,
)

__all__ = [
    "LOCKS", "MAX_SEED", "WEIGHTS_SUFFIXES", "check_folder", "check_format", "check_seed", "check_stored",
    "checkpoint_header",
    "convert_command", "decorator_calls", "derive_seed", "expand_path", "generator_for", "keep_freed_memory",
    "lazy_imports", "load_plugins", "locked", "make_streams_visible", "new_file", "open_zip", "parse_json",
    "parse_setting", "progress_bar", "read_file", "read_json", "remove_stale_files", "say", "setting_types",
    "settings_of", "sha256_of", "sync_folder", "visible_streams", "weights_format", "with_settings",
]  # fmt: skip
