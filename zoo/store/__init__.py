"""Where entries lie, how they get there, and whether a file is the one of its card. Imports no torch."""

from zoo.store.bundles import bundle, install
from zoo.store.cache import Item, clean_cache, list_cache, verify_cache
from zoo.store.local_path import checkpoint_at, is_path
from zoo.store.mirrors import INDEX, configured_mirrors
from zoo.store.places import locations
from zoo.store.publishing import publish
from zoo.store.store import (
    add,
    cache_dir,
    cards,
    download,
    fetch,
    home,
    info,
    install_entry,
    is_shipped,
    list_models,
    package_dir,
    read_card,
    user_dir,
    verify_file,
)

__all__ = [
    "INDEX",
    "Item",
    "add",
    "bundle",
    "cache_dir",
    "cards",
    "checkpoint_at",
    "clean_cache",
    "configured_mirrors",
    "download",
    "fetch",
    "home",
    "info",
    "install",
    "install_entry",
    "is_path",
    "is_shipped",
    "list_cache",
    "list_models",
    "locations",
    "package_dir",
    "publish",
    "read_card",
    "user_dir",
    "verify_cache",
    "verify_file",
]
