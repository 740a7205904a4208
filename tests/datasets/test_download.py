"""Downloads from a real HTTP server on loopback that misbehaves, and archives that try to leave their folder."""

from __future__ import annotations

import hashlib
import io
import shutil
import stat
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from http_mirror import serving

from zoo.datasets import download as files
from zoo.datasets import load
from zoo.datasets.modelnet import MODELNET10, ModelNet10, ModelNet40
from zoo.errors import ZooError

CONTENT = np.random.default_rng(0).bytes(700_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files` by name; `faults` counts how often each kind of fault is still to happen."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, int] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, kind: str) -> bool:
        left = self.faults.get(kind, 0)
        self.faults[kind] = left - 1
        return left > 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self.server.asked.append(self.path)
        content = self.server.files.get(name)
        if content is None or self.server.fault("missing"):
            self.send_error(404)
            return
        if self.server.fault("flip"):
            content = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
        if self.server.fault("refuse"):
            self.connection.close()
            return
        self.send_response(200)
        if not self.server.fault("no length"):
            self.send_header("Content-Length", str(len(content) + (50 if self.server.fault("lie") else 0)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.server.fault("drop") else content)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        running.files["a.bin"] = CONTENT
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def files_in(folder: Path) -> list[Path]:
    """What lies in a folder, without the folder of its locks."""
    return [path for path in folder.iterdir() if path.name != ".locks"]


def test_a_download_is_the_file(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.bin"
    assert files.download(f"{server.url}/a.bin", target) == DIGEST
    assert target.read_bytes() == CONTENT
    assert files.download(f"{server.url}/a.bin", target, sha256=DIGEST.upper()) == DIGEST
    server.faults["no length"] = 1
    assert files.download(f"{server.url}/a.bin", target) == DIGEST
    assert [path.name for path in files_in(target.parent)] == ["a.bin"]


@pytest.mark.parametrize("fault", ["drop", "refuse", "lie"])
def test_a_broken_connection_is_tried_again(server: Server, tmp_path: Path, fault: str) -> None:
    server.faults[fault] = 2
    assert files.download(f"{server.url}/a.bin", tmp_path / "a.bin") == DIGEST
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_a_download_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a.safetensors").write_bytes(CONTENT)  # the ending that this server plays its tricks with
    with serving(tmp_path / "site") as http:
        http.trick = "cut"
        with pytest.raises(ZooError, match=r"cannot download .*broke off"):
            files.download(f"{http.url}/a.safetensors", tmp_path / "a.bin")
        http.trick = "none"
        assert files.download(f"{http.url}/a.safetensors", tmp_path / "a.bin") == DIGEST
    first, *others = (int(asked.removeprefix("bytes=").rstrip("-") or 0) for asked in http.ranges)
    assert first == 0
    assert others == sorted(others)
    assert others[-1] > 600_000  # each attempt brings half of the rest, and the next call goes on from there


def test_a_folder_is_a_mirror_of_data_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    monkeypatch.setenv(files.MIRROR, str(tmp_path))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert files.download(files.mirrored("https://example.org/a.bin"), tmp_path / "to" / "a.bin") == DIGEST


@pytest.mark.parametrize(
    ("fault", "asked", "message"),
    [
        ("drop", 3, "cannot download .*set ZOO_DATA_MIRROR"),
        ("lie", 3, "cannot download "),
        ("refuse", 3, "or give a local folder with `data_dir=DIR`"),
        ("missing", 1, "404"),
        ("flip", 1, f"but {DIGEST} was expected: the file is damaged"),
    ],
)
def test_a_download_that_fails_leaves_everything_as_it_was(
    server: Server, tmp_path: Path, fault: str, asked: int, message: str
) -> None:
    server.faults[fault] = 9
    for before in (None, b"the older file"):
        if before is not None:
            (tmp_path / "a.bin").write_bytes(before)
        with pytest.raises(ZooError, match=message):
            files.download(f"{server.url}/a.bin", tmp_path / "a.bin", sha256=DIGEST)
        assert {path.name: path.read_bytes() for path in files_in(tmp_path)} == ({"a.bin": before} if before else {})
    assert len(server.asked) == 2 * asked


def test_no_server_and_no_address(tmp_path: Path) -> None:
    with Server() as gone:
        url = gone.url
    for address in (f"{url}/a.bin", "nowhere", "ftp://127.0.0.1/a.bin"):
        with pytest.raises(ZooError, match="cannot download"):
            files.download(address, tmp_path / "a.bin")
    assert files_in(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_and_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ZooError, match=r"cannot write /dev/full/a\.bin"):
        files.download(f"{server.url}/a.bin", Path("/dev/full/a.bin"))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ZooError, match=r"cannot write .*a\.bin: No space left on device"):
        files.download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert files_in(tmp_path) == []


def test_offline_nothing_is_asked_for(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(ZooError, match=r"ZOO_OFFLINE is set; .* give a local folder with `data_dir=DIR`"):
        files.download(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert server.asked == []
    assert files_in(tmp_path) == []


def test_mirror_keeps_the_file_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(files.MIRROR, raising=False)
    assert files.mirrored("https://a.org/b/c.zip") == "https://a.org/b/c.zip"
    assert files.mirrored("https://a.org/b/c.zip", "http://m/x/") == "http://m/x/c.zip"
    monkeypatch.setenv(files.MIRROR, "http://env")
    assert files.mirrored("https://a.org/b/c.zip") == "http://env/c.zip"
    assert files.mirrored("https://a.org/b/c.zip", "http://m") == "http://m/c.zip"


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_unzip_gives_what_was_packed(tmp_path: Path) -> None:
    members = {"top/a.txt": b"a", "top/b/c.txt": CONTENT, "d..e.txt": b"d", "__MACOSX/top/._a.txt": b"x"}
    (tmp_path / "a.zip").write_bytes(zipped(members))
    files.unzip(tmp_path / "a.zip", tmp_path / "out")
    found = {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == {name: content for name, content in members.items() if not name.startswith("__MACOSX")}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["d..e.txt", "top"]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    "name",
    ["../evil", "top/../../evil", "/abs/evil", "C:/evil", "C:evil", "..\\evil", "top\\..\\..\\evil", "//host/share/x"],
)
def test_no_member_leaves_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"top/good.txt": b"good", name: b"evil"}))
    before = everything(tmp_path)
    with pytest.raises(ZooError, match="would leave its folder; nothing was unpacked"):
        files.unzip(tmp_path / "a.zip", tmp_path / "in" / "out")
    assert everything(tmp_path) == before
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    link = zipfile.ZipInfo("top/link")
    link.create_system, link.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("top/good.txt", "good")
        archive.writestr(link, "/etc")
    with pytest.raises(ZooError, match="'top/link', a link or a device; nothing was unpacked"):
        files.unzip(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_archives_and_taken_names(tmp_path: Path) -> None:
    good = zipped({"top/a.bin": CONTENT})
    flipped = bytearray(good)
    flipped[350_000] ^= 1
    for content in (b"", b"no zip", good[:-100], bytes(flipped)):
        (tmp_path / "a.zip").write_bytes(content)
        with pytest.raises(ZooError, match="is no readable zip archive"):
            files.unzip(tmp_path / "a.zip", tmp_path / "out")
        assert everything(tmp_path / "out") == {}
    (tmp_path / "a.zip").write_bytes(good)
    with pytest.raises(ZooError, match="cannot unpack"):
        files.unzip(tmp_path / "absent.zip", tmp_path / "out")
    files.unzip(tmp_path / "a.zip", tmp_path / "out")
    with pytest.raises(ZooError, match="top exists already"):
        files.unzip(tmp_path / "a.zip", tmp_path / "out")
    assert everything(tmp_path / "out") == {str(tmp_path / "out/top/a.bin"): CONTENT}


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_members_are_stored_or_deflated(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("top/a.txt", bytes(10_000))
    whole = path.read_bytes()
    start = 30 + len("top/a.txt") + 4  # behind the local header and the first bytes of the data
    for content in (whole, whole[:start] + bytes(5) + whole[start + 5 :]):
        path.write_bytes(content)
        with pytest.raises(ZooError, match=r"'top/a\.txt', packed by method \d+ where deflate \(8\) was expected; n"):
            files.unzip(path, tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("caf\u00e9/x", b"caf\xff\xfe/x", "is no readable zip archive"),
        ("caf\u00e9/x", b"\0af\xc3\xa9/x", "which no file can be called; nothing was unpacked"),
    ],
)
def test_names_that_no_file_can_have(tmp_path: Path, name: str, other: bytes, message: str) -> None:
    content = zipped({name: b"x"})
    (tmp_path / "a.zip").write_bytes(content.replace(name.encode(), other))
    with pytest.raises(ZooError, match=message):
        files.unzip(tmp_path / "a.zip", tmp_path / "out")
    assert everything(tmp_path / "out") == {}


def test_what_an_archive_unpacks_to_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, big = tmp_path / "a.zip", 1 << 20
    content = zipped({"top/a.txt": bytes(big), "top/b.txt": bytes(big)})
    path.write_bytes(content)
    with pytest.raises(ZooError, match=f"would take {2 * big} bytes, and {64 * len(content)} are allowed for its size"):
        files.unzip(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # A size that is too small, in both headers, is all that is written.
    path.write_bytes(content.replace(big.to_bytes(4, "little"), (9_000).to_bytes(4, "little")))
    written: list[int] = []
    copy = shutil.copyfileobj

    def counted(source: IO[bytes], target: IO[bytes]) -> None:
        try:
            copy(source, target)
        finally:
            written.append(target.tell())

    monkeypatch.setattr(shutil, "copyfileobj", counted)
    with pytest.raises(ZooError, match="is no readable zip archive"):
        files.unzip(path, tmp_path / "out")
    assert max(written, default=0) <= 9_000
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.setattr(files, "MAX_UNPACKED", 10)
    path.write_bytes(zipped({"top/a.txt": CONTENT}))
    with pytest.raises(ZooError, match=f"would take {len(CONTENT)} bytes, and 10 are allowed"):
        files.unzip(path, tmp_path / "out")


TETRAHEDRON = b"OFF\n4 4 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n"


def test_modelnet_is_downloaded_from_a_mirror_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    members = {f"ModelNet10/{n}/{s}/{n}_0001.off": TETRAHEDRON for n in MODELNET10 for s in ("train", "test")}
    archive = server.files["ModelNet10.zip"] = zipped({**members, "__MACOSX/ModelNet10/._x": b""})
    monkeypatch.setenv(files.MIRROR, f"{server.url}/pub")
    data = load("modelnet10", "test", data_dir=tmp_path, download=True)
    assert [label for _, label in data] == list(range(10))
    said = capsys.readouterr().err
    assert "for the convenience of academic research only" in said
    assert f"no checksum is on record to compare with; its SHA-256 is {hashlib.sha256(archive).hexdigest()}" in said
    assert [path.name for path in files_in(tmp_path)] == ["ModelNet10"]
    again = load("modelnet10", "test", data_dir=tmp_path, download=True)
    assert again[3][0].equal(data[3][0])
    assert server.asked == ["/pub/ModelNet10.zip"]


def test_modelnet_archives_are_compared_and_looked_through(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(**options: str) -> None:
        ModelNet40(tmp_path, "test", download=True, mirror=server.url, **options)

    server.files["ModelNet40.zip"] = zipped({"../ModelNet40/x.off": TETRAHEDRON})
    server.files["modelnet40_ply_hdf5_2048.zip"] = zipped({"modelnet40_ply_hdf5_2048/readme": b"nothing else"})
    with pytest.raises(ZooError, match="the file is damaged or another one"):
        fetch(sha256="0" * 64)
    with pytest.raises(ZooError, match="would leave its folder"):
        fetch(source="off")
    with pytest.raises(ZooError, match="not published in the layout 'ply'; its owners' are hdf5, off"):
        fetch(source="ply")
    with pytest.raises(ZooError, match="not published in the layout 'hdf5'"):
        ModelNet10(tmp_path, "test", download=True, mirror=server.url, source="hdf5")
    assert files_in(tmp_path) == []
    digest = hashlib.sha256(server.files["modelnet40_ply_hdf5_2048.zip"]).hexdigest()
    with pytest.raises(ZooError, match="holds no ModelNet"):
        fetch(sha256=digest)
    assert "no checksum is on record" not in capsys.readouterr().err.splitlines()[-1]
    assert server.asked[-1] == "/modelnet40_ply_hdf5_2048.zip"
