"""The folders, mirrors and bundles of entries, and whether a file is the one of its card. Imports no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.store.folders import cache_dir, home, is_downloaded, is_shipped, package_dir, user_dir
from zoo.store.local_path import checkpoint_at, is_path, locations
from zoo.store.mirrors import INDEX, configured_mirrors
from zoo.store.save import NameTakenError, copy_entry, write_entry
from zoo.store.signatures import Signer, demanded_key, new_key, verifying_with
from zoo.store.store import cards, download, fetch, find, info, list_models, reading
from zoo.store.verify import read_card, verified_path, verify_file

if TYPE_CHECKING:
    from zoo.store.bundles import bundle, install
    from zoo.store.cache import CacheItem, clean_cache, list_cache, verify_cache
    from zoo.store.publishing import publish
    from zoo.store.removal import children_of, remove, user_entries, user_entry_names

__all__ = [
    "INDEX", "CacheItem", "NameTakenError", "Signer", "bundle", "cache_dir", "cards", "checkpoint_at", "children_of",
    "clean_cache", "configured_mirrors", "copy_entry", "demanded_key", "download", "fetch", "find", "home", "info",
    "install", "is_downloaded", "is_path", "is_shipped", "list_cache", "list_models", "locations", "new_key",
    "package_dir", "publish", "read_card", "reading", "remove", "user_dir", "user_entries", "user_entry_names",
    "verified_path", "verify_cache", "verify_file", "verifying_with", "write_entry",
]  # fmt: skip

# What `zoo list` does not need is imported on use.
_LAZY = {
    "bundle": "bundles", "install": "bundles", "publish": "publishing", "CacheItem": "cache", "clean_cache": "cache",
    "list_cache": "cache", "verify_cache": "cache", "user_entries": "removal", "user_entry_names": "removal",
    "children_of": "removal", "remove": "removal",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"zoo.store.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
