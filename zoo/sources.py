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

if TYPE_CHECKING:
    from requests import Response

CHUNK = 1 << 18
TIMEOUT = (10, 30)  # seconds to connect, seconds between two pieces
_HF = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<folder>[\w./-]+))?/?")


class FetchError(ZooError):
    """This place gave no good file; another one may."""


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
    scheme = urlsplit(base).scheme.lower()
    if scheme in ("http", "https", "hf"):
        if offline():
            raise FetchError("ZOO_OFFLINE is set, so it is not asked")
        return Http(base) if scheme != "hf" else _hugging_face(base)
    if scheme == "file":
        from urllib.request import url2pathname  # slow to import, seldom needed

        path = Path(url2pathname(urlsplit(base).path))
    elif "://" in base:
        raise FetchError("it is no address of a mirror: give a folder, file://, http(s):// or hf://owner/repository")
    else:
        path = Path(base).expanduser()
    return Bundle(path) if path.suffix == ".zip" else Folder(path)


class Folder:
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def open(self, name: str, *, start: int = 0, validator: str | None = None) -> Iterator[Answer]:
        path = self.path / name
        try:
            file = open(path, "rb")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise FetchError(f"{path}: {error.strerror or error}") from error

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
            raise FetchError(f"{self.path} holds no {name}") from error
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


class Http:
    """A folder behind http or https."""

    def __init__(self, base: str, headers: Mapping[str, str] | None = None) -> None:
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
            if answer.status_code != 416:  # what is here already is all there is, or more
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
            raise FetchError(f"{url} answered {answer.status_code} {answer.reason}")
        begins, total = _range_of(answer) if answer.status_code == 206 else (0, _length_of(answer))
        if answer.status_code == 206 and begins != start:
            raise FetchError(f"{url} was asked for bytes from {start} on and sent those from {begins} on")

        def pieces() -> Iterator[bytes]:
            with _plain_words(url):
                # Small pieces: of one during which the connection breaks off nothing is kept.
                yield from answer.iter_content(1 << 14)

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
    return int(length) if length.isdigit() and not encoded else None


def _range_of(answer: Response) -> tuple[int, int | None]:
    """The first byte that is sent and the file's size, from a header like "bytes 100-999/1000"."""
    parts = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if parts is None:
        raise FetchError(f"{answer.url} sent a part of the file without saying which")
    return int(parts[1]), None if parts[2] == "*" else int(parts[2])


def _validator_of(answer: Response) -> str | None:
    """A strong entity tag, or else the date of the last change; a weak tag promises too little."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified")


@contextmanager
def _plain_words(url: str) -> Iterator[None]:
    """The innermost cause: what requests prints wraps it in the names of three libraries' classes."""
    import requests

    try:
        yield
    except (requests.TooManyRedirects, requests.exceptions.InvalidURL, requests.exceptions.MissingSchema) as error:
        reason = "the address redirects in a loop" if isinstance(error, requests.TooManyRedirects) else str(error)
        raise FetchError(f"{url}: {reason}") from error
    except (requests.exceptions.SSLError, requests.exceptions.ProxyError) as error:
        raise FetchError(f"{url}: {error}") from error
    except requests.ConnectTimeout as error:
        raise FetchError(f"{url}: the server does not answer") from error
    except requests.RequestException as error:
        reasons = {
            requests.exceptions.ChunkedEncodingError: "the connection broke off",
            requests.exceptions.ContentDecodingError: "what it sent cannot be unpacked",
            requests.ReadTimeout: "the server stopped answering",
            requests.ConnectionError: "the connection was refused, broke off or stalled",
        }
        raise BrokenOffError(f"{url}: {reasons.get(type(error), str(error))}") from error
