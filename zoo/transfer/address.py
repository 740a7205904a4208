"""Addresses as they may be shown: without user names, passwords and tokens."""

from __future__ import annotations

import re

HUGGING_FACE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<folder>[\w./-]+))?/?")
# An @ behind such a host belongs to a path. Behind any other text it may end a password that holds / ? # : or @.
_PLAIN_HOST = re.compile(r"file://(localhost)?/|[a-z][a-z0-9+.-]*://[\w-]+(\.[\w-]+)+[/?#]", re.IGNORECASE)
_NOT_A_PATH = re.compile(r"[^/\\]*://|(//)?[^/\\]{2,}:.*@", re.DOTALL)  # two letters: C: is a drive
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
