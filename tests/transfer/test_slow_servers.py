"""Servers that give a byte now and then, for ever: they are given up, whatever is asked for."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from http_mirror import Mirror
from raw_server import Sent, server
from store_entries import MODELNET

import zoo
from zoo import store
from zoo.datasets import download as data_sets
from zoo.errors import ZooError
from zoo.transfer import FetchError, Limits, download_bytes, download_file

QUICK = Limits(window=0.15, least_bytes=700, total=0.3, least_rate=100_000)
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


def trickle(beginning: bytes = b"", pause: float = 0.02, piece: bytes = b"x") -> Callable[[], Sent]:
    """What a server sends: this at once, and then a piece after each pause, for half a minute."""

    def sent() -> Sent:
        yield beginning
        for _ in range(int(30 / pause)):
            time.sleep(pause)
            yield piece

    return sent


SLOW = {
    "its status line": trickle(),
    "a header": trickle(HEAD + b"X-Endless: "),
    "one header after another": trickle(HEAD, piece=b"X-Endless: 1\r\n"),
    "100 Continue": trickle(pause=0.001, piece=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "nothing": trickle(pause=30),
    "a body of known length": trickle(HEAD + b"Content-Length: 280000\r\n\r\n"),
    "a body without length": trickle(HEAD + b"\r\n"),
    "the length of a chunk": trickle(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", piece=b"0"),
    "a redirection": trickle(b"HTTP/1.1 302 Found\r\nX-Endless: "),
    "fast enough for the window, not in all": trickle(HEAD + b"\r\n", piece=b"x" * 150),
}


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    return empty_home


@pytest.mark.parametrize("part", SLOW)
def test_whatever_comes_slowly_is_given_up(part: str, tmp_path: Path) -> None:
    with server(SLOW[part]) as address:
        began = time.monotonic()
        with pytest.raises(FetchError, match=r"stalled|is too slow"):
            download_bytes(address, "index.json", limits=QUICK)
        with pytest.raises(FetchError, match=r"stalled|is too slow"):
            download_file(address, "x.zip", tmp_path / "x.zip", limits=QUICK)
        assert time.monotonic() - began < 15  # of the half minute that each of them lasts
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []
    assert not [thread for thread in threading.enumerate() if thread.name == "zoo-watchdog"]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_handshake_of_tls_that_comes_slowly_is_given_up() -> None:
    with server(trickle(b"\x16\x03\x03\x3f\xff")) as address:
        began = time.monotonic()
        with pytest.raises(FetchError, match="stalled: no answer"):
            download_bytes(address.replace("http:", "https:"), "index.json", limits=QUICK)
        assert time.monotonic() - began < 15
    gc.collect()  # here: of a connection that ended before the handshake began, Python's ssl leaves a socket to it


@pytest.mark.parametrize("name", ["index.json", "net.modelnet10.json", ".safetensors"])
def test_the_next_mirror_is_asked_for_an_entry(
    http: Mirror, mirror: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("zoo.transfer.download.STALL_SECONDS", 0.3)
    answer = http.answer

    def slow(handler, path: Path) -> None:  # type: ignore[no-untyped-def]
        if not path.name.endswith(name):
            answer(handler, path)
            return
        with suppress(OSError):
            for piece in trickle(HEAD + b"Content-Length: 280000\r\n\r\n")():
                handler.wfile.write(piece)

    monkeypatch.setattr(http, "answer", slow)
    began = time.monotonic()
    assert zoo.download("net", mirror=[http.url, str(mirror)]).read_bytes() == MODELNET
    (store.cache_dir() / "net.modelnet10.json").unlink()
    assert len(store.cards([http.url, str(mirror)])) == 3
    assert time.monotonic() - began < 15  # of the half minute that each answer lasts
    assert any(path.endswith(name) for path in http.asked)


def test_a_data_set_is_given_up_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.transfer.download.STALL_SECONDS", 0.2)
    with server(SLOW["a header"]) as address, pytest.raises(ZooError, match=r"cannot download .*x\.zip: .*stalled"):
        data_sets.download(f"{address}/x.zip", tmp_path / "x.zip")


def test_a_slow_server_that_is_quick_enough_is_waited_for() -> None:
    """Each window brings enough, and so does the whole."""
    body = json.dumps({"schema": 1, "cards": []}).encode() + b" " * 20_000

    def sent() -> Sent:
        yield HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
        for start in range(0, len(body), 1000):
            time.sleep(0.06)
            yield body[start : start + 1000]

    limits = Limits(window=5, least_bytes=1000, total=1, least_rate=200)
    with server(sent) as address:
        assert download_bytes(address, "index.json", limits=limits) == body


def test_of_a_redirection_no_body_is_read(mirror: Path, http: Mirror) -> None:
    pieces = []

    def sent() -> Sent:
        yield b"HTTP/1.1 302 Found\r\nLocation: %s/index.json\r\nConnection: close\r\n\r\n" % http.url.encode()
        for _ in range(1000):
            pieces.append(1 << 16)
            yield bytes(1 << 16)

    with server(sent) as address:
        assert download_bytes(address, "index.json") == (mirror / "index.json").read_bytes()
    assert sum(pieces) < 30_000_000  # what the system's buffers hold, of 65 MB
