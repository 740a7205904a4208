"""A source behind http(s), and Hugging Face repositories, which are read through it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from zoo.transfer.address import HUGGING_FACE, redact
from zoo.transfer.base import (
    CHUNK,
    DEFAULT_LIMITS,
    ConnectionLostError,
    FetchError,
    FileStream,
    Limits,
    NoSuchFileError,
)

if TYPE_CHECKING:
    from requests import Response

    from zoo.transfer.client import Watchdog

TIMEOUT = (10, 30)  # seconds to connect, seconds without a byte


class HttpSource:
    """The files of a folder behind http or https."""

    def __init__(self, base: str, headers: Mapping[str, str] | None = None) -> None:
        if urlsplit(base).query or urlsplit(base).fragment:
            raise FetchError("a mirror's address is that of a folder: it has no ? and no #")
        self.base = base.rstrip("/")
        self.headers = dict(headers or {})

    @contextmanager
    def open(
        self, name: str, *, start: int = 0, validator: str | None = None, limits: Limits = DEFAULT_LIMITS
    ) -> Iterator[FileStream]:
        url = f"{self.base}/{quote(name)}"
        # identity: the size that a compressing server states is not that of the file
        headers = {**self.headers, "Accept-Encoding": "identity"}
        if start and validator:
            headers |= {"Range": f"bytes={start}-", "If-Range": validator}
        with _answer(url, headers, limits) as (response, watchdog):
            if response.status_code != 416 or "Range" not in headers:
                yield self._stream(url, response, start, watchdog)
                return
        with self.open(name, limits=limits) as stream:  # 416: the file has no bytes from `start` on; read all of it
            yield stream

    def _stream(self, url: str, response: Response, start: int, watchdog: Watchdog) -> FileStream:
        if response.status_code not in (200, 206):
            reason = "".join(char for char in str(response.reason) if char.isprintable())
            error = NoSuchFileError if response.status_code == 404 else FetchError
            raise error(f"{redact(url)} answered {response.status_code} {reason}")
        first, total = _content_range(response) if response.status_code == 206 else (0, _content_length(response))
        if response.status_code == 206 and first != start:
            raise FetchError(f"{redact(url)} was asked for bytes from {start} on and sent those from {first} on")

        def chunks() -> Iterator[bytes]:
            with _translated_errors(url, watchdog):
                # read1 returns what has come, however little. A full read would lose the bytes before a broken
                # connection.
                while chunk := response.raw.read1(CHUNK, decode_content=True):
                    watchdog.receive(len(chunk))
                    yield chunk

        is_html = response.headers.get("Content-Type", "").lower().startswith("text/html")
        return FileStream(first, total, _validator(response), chunks(), is_html)


def hugging_face_source(base: str) -> HttpSource:
    """The source for hf://owner/repository[@revision][/folder].

    `huggingface_hub` gives only the address and the token: the download itself verifies and resumes as any other.

    Raises FetchError: the address is another one, or huggingface_hub is not installed.
    """
    parts = HUGGING_FACE.fullmatch(base)
    if parts is None:
        raise FetchError("write a Hugging Face repository as hf://owner/repository, hf://owner/repository@revision")
    try:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]
    except ImportError as error:
        raise FetchError("Hugging Face repositories need one more package: pip install 'pruned-zoo[hf]'") from error
    name = f"{parts['folder'].strip('/')}/x" if parts["folder"] else "x"
    url = hf_hub_url(parts["repo"], name, revision=parts["revision"])
    return HttpSource(url.rsplit("/", 1)[0], build_hf_headers())


def _content_length(response: Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
    return int(length) if re.fullmatch("[0-9]{1,18}", length) and not encoded else None


def _content_range(response: Response) -> tuple[int, int | None]:
    """The first byte that is sent and the size of the file, from a header such as "bytes 100-999/1000"."""
    parts = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)", response.headers.get("Content-Range", ""))
    if parts is None:
        raise FetchError(f"{redact(response.url)} sent a part of the file without saying which")
    return int(parts[1]), None if parts[2] == "*" else int(parts[2])


def _validator(response: Response) -> str | None:
    """A strong entity tag, or else the date of the last change: a weak tag promises too little for If-Range."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


@contextmanager
def _answer(url: str, headers: Mapping[str, str], limits: Limits) -> Iterator[tuple[Response, Watchdog]]:
    """The answer to a request, its body unread, and the watchdog that ends it when it is too slow."""
    from zoo.transfer.client import Watchdog, get  # slow to import, and `zoo list` needs none of it

    with closing(Watchdog(limits)) as watchdog, ExitStack() as stack:
        with _translated_errors(url, watchdog):
            response = stack.enter_context(get(url, headers, TIMEOUT, watchdog))
        yield response, watchdog


@contextmanager
def _translated_errors(url: str, watchdog: Watchdog) -> Iterator[None]:
    """Turn errors of requests, urllib3 and http.client, and those of the watchdog, into a FetchError of one sentence.

    The libraries' errors quote addresses, of the server or of a proxy, with the passwords in them. So no traceback has
    them, and their words are repeated only where they cannot have an address that hides something.
    """
    from http.client import HTTPException

    import urllib3

    try:
        yield
    # Those of requests are OSErrors. It raises a TypeError for a proxy without a host.
    except (OSError, ValueError, TypeError, urllib3.exceptions.HTTPError, HTTPException) as error:
        if watchdog.expired is None:
            kind, reason = _reason(error, quoted=redact(url) == url)
            raise kind(f"{redact(url)}: {reason}") from None
    if watchdog.expired is not None:  # without an error too: an ended connection may look like the end of the file
        raise type(watchdog.expired)(f"{redact(url)} {watchdog.expired}")


def _reason(error: Exception, *, quoted: bool) -> tuple[type[FetchError], str]:
    """What went wrong, in the words of the library too if these may be ``quoted``."""
    import requests
    import urllib3

    if isinstance(error, requests.TooManyRedirects):
        return FetchError, "the address redirects in a loop"
    if isinstance(error, requests.exceptions.ProxyError):
        return FetchError, "the proxy cannot be reached"
    if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
        return FetchError, f"the connection is not safe: {error if quoted else 'its certificate is not valid for it'}"
    if isinstance(error, requests.ConnectTimeout):
        return FetchError, "the server does not answer"
    if isinstance(error, requests.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return ConnectionLostError, "the server stopped answering"
    if isinstance(error, requests.exceptions.ContentDecodingError | urllib3.exceptions.DecodeError):
        return FetchError, "what it sent cannot be unpacked"
    if isinstance(error, requests.exceptions.ChunkedEncodingError | urllib3.exceptions.ProtocolError):
        return ConnectionLostError, "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        return ConnectionLostError, "the connection was refused, broke off or stalled"
    if quoted and not isinstance(error, ValueError | TypeError | urllib3.exceptions.LocationValueError):
        return FetchError, str(error)  # such as certificates that are not there
    return FetchError, (
        "its address, or that of the proxy, is none: write http://USER:PASSWORD@HOST:PORT/FOLDER, with %40 for @, %2F "
        "for / and %23 for # in a user name or password"
    )
