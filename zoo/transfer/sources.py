"""Places that give files by name: a folder, a bundle, an http(s) server, a Hugging Face repository.

Each can begin in the middle of a file, so that a download goes on where it was interrupted, provided that the file is
still the same one: a *validator* says so (RFC 9110, section 13.1.5, If-Range).
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlsplit

from zoo.errors import ZooError
from zoo.utils import expand_path

if TYPE_CHECKING:
    from requests import Response

CHUNK = 1 << 18
TIMEOUT = (10, 30)  # seconds to connect, seconds between two pieces
_HF = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<folder>[\w./-]+))?/?")


class FetchError(ZooError):
    """This place gave no good file; another one may."""


class NoSuchFileError(FetchError):
    """This place can be reached and has no file of that name."""


class BrokenOffError(FetchError):
    """The connection ended on the way: the same place may give the rest."""


@dataclass(frozen=True)
class Answer:
    """A file on its way: its bytes from `start` on.

    total      bytes of the whole file, None where the place does not say
    validator  changes when the file does; None where the place gives none
    html       the place calls it a web page
    """

    start: int
    total: int | None
    validator: str | None
    pieces: Iterator[bytes]
    html: bool = False


class Source(Protocol):
    """A place that gives files."""

    def open(
        self, name: str, *, start: int = 0, validator: str | None = None
    ) -> AbstractContextManager[Answer]:
        """The file's bytes from `start` on if it is still the one of the validator, or else from 0.

        Raises FetchError: there is no such file, or the place cannot be reached. The pieces raise it too.
        """


def offline() -> bool:
    """Whether ``ZOO_OFFLINE`` forbids the network."""
    return os.environ.get("ZOO_OFFLINE", "").strip().lower() not in ("", "0", "false", "no", "off")


def source_of(base: str) -> Source:
    """The place that an address names: a folder, a bundle (a .zip file), file://, http(s):// or hf://owner/repository,
    with @revision and /folder if wanted.

    Raises FetchError: it is none of these, or ``ZOO_OFFLINE`` is set and it lies on the network.
    """
    try:
        scheme = urlsplit(base).scheme.lower()
    except ValueError as error:
        raise FetchError(f"it is no address: {error}") from error
    if scheme in ("http", "https", "hf"):
        if offline():
            raise FetchError("ZOO_OFFLINE is set, so it is not asked")
        return Http(base) if scheme != "hf" else _hugging_face(base)
    if scheme == "file":
        from urllib.request import url2pathname  # slow to import, seldom needed

        if urlsplit(base).netloc not in ("", "localhost"):
            raise FetchError("a file:// address names a folder of this machine: write file:///folder")
        path = Path(url2pathname(urlsplit(base).path))
    elif "://" in base:
        raise FetchError("it is no address of a mirror: give a folder, file://, http(s):// or hf://owner/repository")
    else:
        path = _expanded(base)
    return Bundle(path) if path.is_file() else Folder(path)


def _expanded(base: str) -> Path:
    try:
        return expand_path(base)
    except ZooError as error:
        raise FetchError(str(error)) from error


class Folder:
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def open(self, name: str, *, start: int = 0, validator: str | None = None) -> Iterator[Answer]:
        path = self.path / name
        try:
            if not path.is_file():  # opening a pipe would wait for ever
                raise NoSuchFileError(f"{path}: there is no such file")
            file = open(path, "rb")  # noqa: SIM115 (closed below)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the name
            raise FetchError(f"{path}: {getattr(error, 'strerror', None) or error}") from error

        def pieces() -> Iterator[bytes]:
            # Only around the reading: what goes wrong where the bytes are written is no fault of this place.
            try:
                file.seek(start)
                while piece := file.read(CHUNK):
                    yield piece
            except OSError as error:
                raise FetchError(f"{path}: {error.strerror or error}") from error

        with file:
            state = os.fstat(file.fileno())
            found = f"{state.st_size} {state.st_mtime_ns}"
            start = start if validator == found else 0
            yield Answer(start, state.st_size, found, pieces())


class Bundle:
    """A zip file that `zoo bundle` wrote. Members are read by name, nothing is unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def open(self, name: str, *, start: int = 0, validator: str | None = None) -> Iterator[Answer]:
        try:
            archive = zipfile.ZipFile(self.path)  # closed below
            size = archive.getinfo(name).file_size
        except KeyError as error:
            raise NoSuchFileError(f"{self.path} holds no {name}") from error
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FetchError(f"{self.path} is no readable bundle: {reason}") from error

        def pieces() -> Iterator[bytes]:
            try:
                with archive.open(name) as file:
                    while piece := file.read(CHUNK):
                        yield piece
            except (OSError, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
                raise FetchError(f"{name} in {self.path}: {error}") from error
            except Exception as error:  # zlib and lzma errors have no common class
                raise FetchError(f"{name} in {self.path} is damaged: {error}") from error

        with archive:
            yield Answer(0, size, None, pieces())


def shown(url: str) -> str:
    """An address without the name and password that it may hold."""
    return re.sub(r"//[^/@]*@", "//", url)


class Http:
    """A folder behind http or https."""

    def __init__(self, base: str, headers: Mapping[str, str] | None = None) -> None:
        if urlsplit(base).query or urlsplit(base).fragment:
            raise FetchError("a mirror's address is that of a folder: it has no ? and no #")
        self.base = base.rstrip("/")
        self.headers = dict(headers or {})

    @contextmanager
    def open(self, name: str, *, start: int = 0, validator: str | None = None) -> Iterator[Answer]:
        url = f"{self.base}/{quote(name)}"
        # identity: a size that the server counts after compressing could not be compared with the card's
        headers = {**self.headers, "Accept-Encoding": "identity"}
        if start and validator:
            headers |= {"Range": f"bytes={start}-", "If-Range": validator}
        with self._get(url, headers) as answer:
            if answer.status_code != 416 or "Range" not in headers:  # what is here is all there is, or more
                yield self._answer(url, answer, start)
                return
        with self.open(name) as whole:
            yield whole

    def _get(self, url: str, headers: Mapping[str, str]) -> Response:
        import requests

        with _plain_words(url):
            return requests.get(url, stream=True, timeout=TIMEOUT, headers=headers)

    def _answer(self, url: str, answer: Response, start: int) -> Answer:
        if answer.status_code not in (200, 206):
            reason = "".join(sign for sign in str(answer.reason) if sign.isprintable())
            error = NoSuchFileError if answer.status_code == 404 else FetchError
            raise error(f"{shown(url)} answered {answer.status_code} {reason}")
        begins, total = _range_of(answer) if answer.status_code == 206 else (0, _length_of(answer))
        if answer.status_code == 206 and begins != start:
            raise FetchError(f"{shown(url)} was asked for bytes from {start} on and sent those from {begins} on")

        def pieces() -> Iterator[bytes]:
            with _plain_words(url):
                # What has come, however little: of a larger piece nothing is kept if the connection breaks off in it.
                while piece := answer.raw.read1(CHUNK, decode_content=True):
                    yield piece

        html = answer.headers.get("Content-Type", "").lower().startswith("text/html")
        return Answer(begins, total, _validator_of(answer), pieces(), html)


def _hugging_face(base: str) -> Http:
    """Downloads go through our own code, which verifies and resumes; the library knows the address and the token."""
    parts = _HF.fullmatch(base)
    if parts is None:
        raise FetchError("write a Hugging Face repository as hf://owner/repository, hf://owner/repository@revision")
    try:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]
    except ImportError as error:
        raise FetchError("Hugging Face repositories need one more package: pip install 'pruned-zoo[hf]'") from error
    inside = f"{parts['folder'].strip('/')}/x" if parts["folder"] else "x"
    url = hf_hub_url(parts["repo"], inside, revision=parts["revision"])
    return Http(url.rsplit("/", 1)[0], build_hf_headers())


def _length_of(answer: Response) -> int | None:
    length = answer.headers.get("Content-Length", "")
    encoded = answer.headers.get("Content-Encoding", "identity").lower() not in ("", "identity")
    return int(length) if re.fullmatch("[0-9]{1,18}", length) and not encoded else None


def _range_of(answer: Response) -> tuple[int, int | None]:
    """The first byte that is sent and the file's size, from a header like "bytes 100-999/1000"."""
    parts = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)", answer.headers.get("Content-Range", ""))
    if parts is None:
        raise FetchError(f"{shown(answer.url)} sent a part of the file without saying which")
    return int(parts[1]), None if parts[2] == "*" else int(parts[2])


def _validator_of(answer: Response) -> str | None:
    """A strong entity tag, or else the date of the last change; a weak tag promises too little."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified")


@contextmanager
def _plain_words(url: str) -> Iterator[None]:
    """The innermost cause: what requests prints wraps it in the names of three libraries' classes."""
    from http.client import HTTPException

    import requests
    import urllib3

    try:
        yield
    except requests.TooManyRedirects as error:
        raise FetchError(f"{shown(url)}: the address redirects in a loop") from error
    except requests.exceptions.ProxyError as error:
        raise FetchError(f"{shown(url)}: the proxy cannot be reached") from error
    except (requests.exceptions.SSLError, urllib3.exceptions.SSLError) as error:
        raise FetchError(f"{shown(url)}: the connection is not safe: {error}") from error
    except requests.ConnectTimeout as error:
        raise FetchError(f"{shown(url)}: the server does not answer") from error
    except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise BrokenOffError(f"{shown(url)}: the server stopped answering") from error
    except (requests.exceptions.ContentDecodingError, urllib3.exceptions.DecodeError) as error:
        raise FetchError(f"{shown(url)}: what it sent cannot be unpacked") from error
    except (requests.exceptions.ChunkedEncodingError, urllib3.exceptions.ProtocolError) as error:
        raise BrokenOffError(f"{shown(url)}: the connection broke off") from error
    except requests.ConnectionError as error:
        raise BrokenOffError(f"{shown(url)}: the connection was refused, broke off or stalled") from error
    # The address itself, or the certificates.
    except (OSError, ValueError, urllib3.exceptions.HTTPError, HTTPException) as error:
        raise FetchError(f"{shown(url)}: {error}") from error
