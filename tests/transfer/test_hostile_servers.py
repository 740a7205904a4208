"""Servers that lead elsewhere, send what swells, or talk nonsense: a sentence, no memory, the next mirror is asked."""

from __future__ import annotations

import functools
import gzip
import os
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from fuzzing import measured_peak
from http_mirror import Mirror, serving
from raw_server import server
from store_entries import MODELNET, visible

import zoo
from zoo import store
from zoo.errors import ZooError
from zoo.transfer import FetchError, download_bytes

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
ASKED = ["index.json", "net.modelnet10.json", ".safetensors"]


@pytest.fixture(autouse=True)
def home(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("zoo.transfer.http.TIMEOUT", (5, 5))
    return empty_home


def answer(
    http: Mirror, monkeypatch: pytest.MonkeyPatch, ending: str, status: int, body: bytes, **headers: str
) -> None:  # fmt: skip
    """Files of this ending are answered so, the rest as ever."""
    usual = http.answer

    def other(handler: BaseHTTPRequestHandler, path: Path) -> None:
        if not path.name.endswith(ending):
            usual(handler, path)
            return
        handler.send_response(status)
        for key, value in {"Content_Length": str(len(body)), **headers}.items():
            for one in value.split(" and "):
                handler.send_header(key.replace("_", "-"), one)
        handler.end_headers()
        handler.wfile.write(body)

    monkeypatch.setattr(http, "answer", other)


def refused(http: Mirror, mirror: Path) -> str:
    """The sentence by which the server is refused; the mirror after it gives the entry."""
    with pytest.raises(ZooError) as caught:
        zoo.download("net", mirror=http.url)
    assert visible(store.cache_dir()) == []
    assert zoo.download("net", mirror=[http.url, str(mirror)]).read_bytes() == MODELNET
    return str(caught.value)


@pytest.mark.parametrize("ending", ASKED)
@pytest.mark.parametrize("target", ["file:///etc/passwd", "file://{here}", "ftp://127.0.0.1/x", "data:,x", "//"])
def test_a_redirection_to_what_is_no_server_is_not_followed(
    http: Mirror, mirror: Path, monkeypatch: pytest.MonkeyPatch, target: str, ending: str
) -> None:
    here = next(path for path in mirror.iterdir() if path.name.endswith(ending))
    answer(http, monkeypatch, ending, 302, b"", Location=target.format(here=here))
    assert refused(http, mirror).startswith(f"cannot download net: {http.url}: ")


def test_another_host_gets_no_password_and_gives_only_what_the_card_states(
    http: Mirror, mirror: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    name = next(mirror.glob("net.modelnet10-*")).name
    address = http.url.replace("//", "//bob:s3cr3t@")
    with serving(other) as second:
        elsewhere = second.url.replace("127.0.0.1", "localhost")
        answer(http, monkeypatch, ".safetensors", 302, b"", Location=f"{elsewhere}/{name}")
        (other / name).write_bytes(MODELNET[::-1])
        with pytest.raises(ZooError, match="has the SHA-256"):
            zoo.download("net", mirror=address)
        (other / name).write_bytes(MODELNET)
        assert zoo.download("net", mirror=address).read_bytes() == MODELNET
    assert any("authorization" in headers for headers in http.headers)
    assert second.headers
    assert not any("authorization" in headers for headers in second.headers)


@functools.cache
def bomb() -> bytes:
    """A gzip file of 200 kB with 200 MB of zeros."""
    return gzip.compress(bytes(200 << 20), 1)


@pytest.mark.parametrize("ending", ASKED)
@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "deflate"])
def test_what_swells_is_given_up_at_its_limit(
    http: Mirror, mirror: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, ending: str
) -> None:
    zoo.list_models()  # what is imported on use is no part of the measurement
    body = gzip.compress(bomb()) if encoding == "gzip, gzip" else bomb()
    answer(http, monkeypatch, ending, 200, body, Content_Encoding=encoding)
    with measured_peak() as grown:
        refused(http, mirror)
    assert grown[0] < 100 << 20


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"Content_Length": "280000 and 10"}),
        (200, {"Content_Length": "10 and 280000"}),
        (200, {"Content_Length": "-1"}),
        (200, {"Content_Length": "99999999999999999999999"}),
        (206, {"Content_Range": "bytes 0-279999/99"}),
        (206, {"Content_Range": "bytes 7-280006/280007"}),
        (206, {"Content_Range": "bytes 0-1/280000 and bytes 2-3/280000"}),
        (206, {}),
        (304, {}),
        (100, {}),
    ],
)
def test_wrong_and_double_lengths_and_ranges(
    http: Mirror, mirror: Path, monkeypatch: pytest.MonkeyPatch, status: int, headers: dict[str, str]
) -> None:
    """Either refused, or the file is the one of the card."""
    answer(http, monkeypatch, ".safetensors", status, MODELNET, **headers)
    path, reason = None, f"cannot download net: {http.url}: "
    try:
        path = zoo.download("net", mirror=http.url)
    except ZooError as error:
        reason = str(error)
    assert reason.startswith(f"cannot download net: {http.url}: ")
    assert path or visible(store.cache_dir()) == []
    assert zoo.download("net", mirror=[http.url, str(mirror)]).read_bytes() == MODELNET


def test_a_tag_that_changes_with_every_answer_gives_the_file_or_a_sentence(
    http: Mirror, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = http.answer

    def changing(handler: BaseHTTPRequestHandler, path: Path) -> None:
        send = handler.send_header
        tag = f'"{os.urandom(4).hex()}"'
        handler.send_header = lambda key, value: send(key, tag if key == "ETag" else value)  # type: ignore[method-assign]
        usual(handler, path)

    http.trick = "cut"
    monkeypatch.setattr(http, "answer", changing)
    assert "broke off" in refused(http, mirror)


GARBAGE = {
    "nothing": b"",
    "zeros": b"\0" * 5000,
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a status of no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "a status that is negative": b"HTTP/1.1 -200 OK\r\n\r\n",
    "a version of the future": b"HTTP/9.9 200 OK\r\n\r\n{}",
    "a header without end": OK + b"X: " + b"a" * 3_000_000,
    "headers without end": OK + b"X: a\r\n" * 500_000,
    "a chunk without end": OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n" + b"x" * 99,
    "a chunk of no number": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nxxxxx\r\n",
    "an unknown encoding": OK + b"Content-Encoding: br\r\n\r\n\xff\xff",
    "no gzip": OK + b"Content-Encoding: gzip\r\n\r\nplain",
    "a lone line feed": b"HTTP/1.1 200 OK\n\n[[[[",
    "a location of no text": b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\n\r\n",
    "a location in brackets": b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\n\r\n",
    "a cookie": OK + b"Set-Cookie: a=" + b"b" * 60_000 + b"\r\n\r\n{}",
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_one_sentence(garbage: str) -> None:
    def sent() -> Iterator[bytes]:
        yield GARBAGE[garbage]

    with server(sent) as address, measured_peak() as grown:
        with suppress(FetchError):  # or these bytes
            assert download_bytes(address, "index.json") in (b"", b"{}", b"[[[[", b"\xff\xff")
        with pytest.raises(ZooError, match=r"^cannot download net: http"):
            zoo.download("net", mirror=address)
    assert grown[0] < 50 << 20
