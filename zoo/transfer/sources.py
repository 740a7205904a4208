"""The source behind an address: a folder, a bundle, file://, http(s):// or hf://."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from zoo.errors import ZooError
from zoo.transfer.base import FetchError, Source
from zoo.transfer.http import HttpSource, hugging_face_source
from zoo.transfer.local import BundleSource, FolderSource
from zoo.utils import expand_path


def offline() -> bool:
    """Whether ``ZOO_OFFLINE`` forbids the network."""
    return os.environ.get("ZOO_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def source_of(base: str) -> Source:
    """The source behind an address: a folder, a bundle (a .zip file), file://, http(s):// or
    hf://owner/repository[@revision][/folder].

    Raises FetchError: the text is none of these, or names the network while ``ZOO_OFFLINE`` is set.
    """
    try:
        scheme = urlsplit(base).scheme.lower()
    except ValueError:  # whose words quote the address, with the password that it may hold
        raise FetchError("it is no address: write http://host/folder") from None
    if scheme in ("http", "https", "hf"):
        if offline():
            raise FetchError("ZOO_OFFLINE is set")
        return HttpSource(base) if scheme != "hf" else hugging_face_source(base)
    path = _local_path(base, scheme)
    return BundleSource(path) if path.is_file() else FolderSource(path)


def _local_path(base: str, scheme: str) -> Path:
    if scheme == "file":
        from urllib.request import url2pathname  # slow to import, seldom needed

        if urlsplit(base).netloc not in ("", "localhost"):
            raise FetchError("a file:// address names a folder of this machine: write file:///folder")
        return Path(url2pathname(urlsplit(base).path))
    if "://" in base:
        raise FetchError("it is no address of a mirror: give a folder, file://, http(s):// or hf://owner/repository")
    try:
        return expand_path(base)
    except ZooError as error:
        raise FetchError(str(error)) from error
