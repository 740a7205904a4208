"""Addresses as they may be shown: without user names, passwords and tokens."""

from __future__ import annotations

import os
import re
from pathlib import Path

from zoo.errors import ZooError
from zoo.utils import expand_path

HUGGING_FACE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<folder>[\w./-]+))?/?")
# An @ behind such a host belongs to a path. Behind any other text it may end a password that holds / ? # : or @.
_PLAIN_HOST = re.compile(r"file://(localhost)?/|[a-z][a-z0-9+.-]*://[\w-]+(\.[\w-]+)+[/?#]", re.IGNORECASE)
# C:\ and C:/ are drives, and me@work:zoo is a folder; me@work:80/zoo is none.
_NOT_A_PATH = re.compile(
    r"[^/\\]*://|(//)?[^/\\]{2,}:.*@|[^/\\]:(?![/\\]).*@|[^/\\]*@[^/\\@]*:\d+(?:[/?#]|$)", re.DOTALL
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # one / is left of two where a path was made of an address
_SECRET = re.compile(r"(?P<scheme>(?:[a-z][a-z0-9+.-]*:)?//?)?.*(?:@|%40)", re.IGNORECASE | re.DOTALL)
_IN_TEXT = re.compile(r"[a-z][a-z0-9+.-]*:/{1,2}[^\s'\"]*@[^\s'\"]*?(?=[:;,.)]*(?:[\s'\"]|$))", re.IGNORECASE)
_HIDDEN = "***"


def redact(address: str) -> str:
    """An address with ``***`` for all that may be secret in it. The one function that shows addresses.

    Secret are user name and password, and what follows ? or #. A password need not be quoted as RFC 3986 demands: all
    up to the last @ is hidden, unless it is plain that the @ belongs to a path. A path of this machine stays as it is.

    >>> redact("https://bob:s3/cr@t@host/zoo?token=1")
    'https://***@host/zoo?***'
    """
    if HUGGING_FACE.fullmatch(address) or not _NOT_A_PATH.match(address):
        return address
    if not _PLAIN_HOST.match(address) and (parts := _SECRET.match(address)):
        address = f"{parts['scheme'] or ''}{_HIDDEN}@{address[parts.end() :]}"
    return re.sub(r"([?#]).*", rf"\1{_HIDDEN}", address, flags=re.DOTALL)


def redact_in(text: str) -> str:
    """A text with its addresses redacted that hold a user name, such as one typed where a name or a file belongs.

    >>> redact_in("there is no file 'http://bob:s3cret@host/x': try again")
    "there is no file 'http://***@host/x': try again"
    """
    return _IN_TEXT.sub(lambda match: redact(match[0]), text)


def local_path(path: str | os.PathLike[str]) -> Path:
    """The path of a file or folder of this machine, with the home folder for a ``~``.

    Raises:
        ZooError: it is an address, of which there would be a folder ``http:``; or as `zoo.utils.expand_path`.
    """
    if _SCHEME.match(text := os.fspath(path)):
        raise ZooError(f"{redact(text)} is an address: give a file or folder of this machine")
    return expand_path(path)
