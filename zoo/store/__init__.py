"""The folders, mirrors and bundles of entries, and whether a file is the one of its card. Imports no torch."""

from zoo.store.bundles import bundle, install
from zoo.store.cache import CacheItem, clean_cache, list_cache, verify_cache
from zoo.store.folders import cache_dir, home, is_shipped, package_dir, user_dir
from zoo.store.local_path import checkpoint_at, is_path, locations
from zoo.store.mirrors import INDEX, configured_mirrors
from zoo.store.publishing import publish
from zoo.store.save import copy_entry, write_entry
from zoo.store.store import cards, download, fetch, info, list_models
from zoo.store.verify import read_card, verified_path, verify_file

__all__ = [
    "INDEX", "CacheItem", "bundle", "cache_dir", "cards", "checkpoint_at", "clean_cache", "configured_mirrors",
    "copy_entry", "download", "fetch", "home", "info", "install", "is_path", "is_shipped", "list_cache",
    "list_models", "locations", "package_dir", "publish", "read_card", "user_dir", "verified_path", "verify_cache",
    "verify_file", "write_entry",
]  # fmt: skip
