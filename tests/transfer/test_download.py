"""A download that is interrupted, stalls, or gets odd answers when it asks for its rest; and the bar that shows it."""

import contextlib
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from http_mirror import Mirror, serving
from store_entries import MODELNET, visible

import zoo
from zoo import store
from zoo.errors import ZooError
from zoo.transfer import DAMAGED


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    return empty_home


def starts(http: Mirror) -> list[int]:
    """From which byte on checkpoints were asked for."""
    return [int(asked.removeprefix("bytes=").rstrip("-") or 0) for asked in http.ranges]


def test_a_download_that_breaks_off_goes_on_where_it_was(http: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "answer", _twice(http))
    path = zoo.download("net", mirror=http.url)
    assert path.read_bytes() == MODELNET
    first, second, third = starts(http)
    assert first == 0
    assert second > 120_000  # of the 140,000 bytes that were sent
    assert third > 190_000
    assert visible(store.cache_dir()) == sorted([path.name, "net.modelnet10.json"])
    assert not list(store.cache_dir().glob(".*.part*"))


def _twice(http: Mirror) -> Callable[..., None]:
    """As a server whose connections break off in the middle, the first two times."""
    answer = http.answer

    def cutting(handler: BaseHTTPRequestHandler, path: Path) -> None:
        http.trick = "cut" if len(http.ranges) < 2 else "none"
        answer(handler, path)

    return cutting


@pytest.mark.parametrize("validator", ["ETag", "only a date"])
def test_the_next_call_goes_on_where_the_last_was_stopped(
    http: Mirror, monkeypatch: pytest.MonkeyPatch, validator: str
) -> None:
    monkeypatch.setattr("zoo.transfer.download.MAX_ATTEMPTS", 1)
    if validator != "ETag":
        monkeypatch.setattr(http, "answer", _dated(http))
    http.trick = "cut"
    with pytest.raises(ZooError, match="broke off"):
        zoo.download("net", mirror=http.url)
    http.trick = "none"
    assert zoo.download("net", mirror=http.url).read_bytes() == MODELNET
    assert starts(http)[0] == 0
    assert starts(http)[1] > 120_000
    assert ("gmt" in http.headers[-1]["if-range"].lower()) == (validator != "ETag")


def _dated(http: Mirror) -> Callable[..., None]:
    """As a server that gives no ETag but a date."""
    answer = http.answer

    def dated(handler: BaseHTTPRequestHandler, path: Path) -> None:
        send, date = handler.send_header, "Sat, 21 Nov 2026 12:00:00 GMT"
        handler.send_header = lambda key, value: send(  # type: ignore[method-assign]
            *(("Last-Modified", date) if key == "ETag" else (key, value))
        )
        if handler.headers.get("If-Range") == date:
            del handler.headers["If-Range"]
        answer(handler, path)

    return dated


def test_a_file_that_changed_in_between_is_fetched_from_the_start(
    http: Mirror, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.transfer.download.MAX_ATTEMPTS", 1)
    name = json.loads((mirror / "net.modelnet10.json").read_text())["file"]["name"]
    (mirror / name).write_bytes(b"another file that is not the card's".ljust(280_000))
    http.trick = "cut"
    with pytest.raises(ZooError, match="broke off"):
        zoo.download("net", mirror=http.url)
    (mirror / name).write_bytes(MODELNET)
    http.trick = "none"
    assert zoo.download("net", mirror=http.url).read_bytes() == MODELNET
    assert starts(http)[1] > 120_000  # asked for the rest, If-Range gave the whole


def test_a_wrong_beginning_is_fetched_again(http: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.transfer.download.MAX_ATTEMPTS", 2)
    http.trick = "always cut"
    with pytest.raises(ZooError, match=r"broke off|ended after"):
        zoo.download("net", mirror=http.url)
    (part,) = store.cache_dir().glob(".*.part")
    part.write_bytes(b"?" * 9000)
    http.trick = "none"
    assert zoo.download("net", mirror=http.url).read_bytes() == MODELNET
    assert http.ranges[-2:] == ["bytes=9000-", ""]
    assert not (store.cache_dir() / DAMAGED).exists()  # the mirror's file was never wrong


def test_a_server_without_validators_is_asked_from_the_start(http: Mirror) -> None:
    http.trick = "no validator"
    with pytest.raises(ZooError, match="broke off"):
        zoo.download("net", mirror=http.url)
    assert set(http.ranges) == {""}


def answering(http: Mirror, monkeypatch: pytest.MonkeyPatch, status: int, **headers: str) -> None:
    """Checkpoints are answered so; the rest as ever."""
    answer = http.answer

    def odd(handler: BaseHTTPRequestHandler, path: Path) -> None:
        if path.suffix != ".safetensors" or not handler.headers.get("Range"):
            answer(handler, path)
            return
        http.ranges.append(handler.headers["Range"])
        handler.send_response(status)
        for key, value in headers.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(b"x" * 100)

    monkeypatch.setattr(http, "answer", odd)


def break_off(http: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the beginning of a download; the mirror answers rightly afterwards."""
    with monkeypatch.context() as patch:
        patch.setattr("zoo.transfer.download.MAX_ATTEMPTS", 1)
        http.trick = "cut"
        with pytest.raises(ZooError, match="broke off"):
            zoo.download("net", mirror=http.url)
    http.trick = "none"


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (206, {"Content_Range": "bytes 0-99/280000"}),
        (206, {}),
        (206, {"Content_Range": "bytes 9-" + "9" * 5000 + "/1"}),
        (206, {"Content_Range": "bytes 140000-140099/140100"}),
        (403, {}),
        (416, {}),
        (500, {"Content_Length": "²"}),
    ],
)
def test_a_bad_answer_to_a_resumed_download_is_no_end(
    http: Mirror, monkeypatch: pytest.MonkeyPatch, status: int, headers: dict[str, str]
) -> None:
    break_off(http, monkeypatch)
    answering(http, monkeypatch, status, **headers)
    assert zoo.download("net", mirror=http.url).read_bytes() == MODELNET


def test_what_came_from_one_mirror_is_kept_while_another_is_asked(
    http: Mirror, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.transfer.download.MAX_ATTEMPTS", 1)
    http.trick = "cut"
    with serving(mirror) as second:
        second.trick = "always cut"
        with pytest.raises(ZooError, match="broke off"):
            zoo.download("net", mirror=[http.url, second.url])
    http.trick = "none"
    assert zoo.download("net", mirror=http.url).read_bytes() == MODELNET
    assert starts(http)[1] > 120_000
    assert not list(store.cache_dir().glob(".net*"))


def test_a_mirror_that_only_trickles_has_stalled(http: Mirror, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.transfer.download.STALL_SECONDS", 0.2)
    monkeypatch.setattr("zoo.transfer.download.STALL_BYTES", 200_000)
    http.pause = 0.05
    with pytest.raises(ZooError, match=r"stalled: less than 200000 bytes came in 0\.2 s"):
        zoo.download("net", mirror=http.url)
    assert zoo.download("net", mirror=[http.url, str(mirror)]).read_bytes() == MODELNET


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal of its own")
def test_a_terminal_shows_a_bar_with_size_and_rate(http: Mirror) -> None:
    import fcntl
    import termios

    http.pause = 0.02
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    code = "import sys, zoo; zoo.download('net', mirror=sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", code, http.url], stderr=slave) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while piece := os.read(master, 1 << 16):
                shown += piece
    os.close(master)
    assert process.returncode == 0
    assert b"net.modelnet10-" in shown
    assert b"/280k" in shown
    assert b"B/s" in shown


@pytest.fixture
def partial(http: Mirror, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a download that broke off, whose name follows from the mirror and the entry."""
    break_off(http, monkeypatch)
    (part,) = store.cache_dir().glob(".*.part")
    return part


def test_what_was_planted_at_the_name_of_an_unfinished_download_is_not_written_through(
    http: Mirror, partial: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"

    def planted() -> None:
        partial.unlink(missing_ok=True)

    for plant in (partial.symlink_to, partial.hardlink_to, lambda _: os.mkfifo(partial)):
        planted()
        secret.write_bytes(b"mine")
        plant(secret)
        path = zoo.download("net", mirror=http.url)
        assert secret.read_bytes() == b"mine"
        assert path.read_bytes() == MODELNET
        assert not path.is_symlink()
        path.unlink()
    assert set(http.ranges) == {""}, "no download went on behind what was planted"


@pytest.mark.parametrize("note", ["{}", "null", "7", '{"source": {}}', "[" * 100_000, '{"validator":' * 100_000])
def test_a_note_of_an_unfinished_download_that_is_none_begins_anew(http: Mirror, partial: Path, note: str) -> None:
    partial.with_name(f"{partial.name}.json").write_text(note)
    assert zoo.download("net", mirror=http.url).read_bytes() == MODELNET
    assert http.ranges[-1] == ""


def test_a_pipe_as_a_note_of_an_unfinished_download_is_not_waited_for(http: Mirror, partial: Path) -> None:
    note = partial.with_name(f"{partial.name}.json")
    note.unlink()
    os.mkfifo(note)
    assert zoo.download("net", mirror=http.url).read_bytes() == MODELNET
    assert not note.exists()
