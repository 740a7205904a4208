"""What lies in the zoo's folder: listed, cleaned, verified; and files that need not be hashed twice."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from http_mirror import Mirror
from store_entries import make

import zoo
from zoo.cli import main
from zoo.errors import ZooError
from zoo.store import cache as caching
from zoo.store import store
from zoo.store import verify_file as verified
from zoo.transfer import DAMAGED
from zoo.utils import sha256_of


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    return empty_home


@pytest.fixture
def littered(home: Path) -> dict[str, Path]:
    """One of each kind of thing."""
    card = make(store.cache_dir(), "net.shapes")
    make(store.user_dir(), "mine.shapes")
    places = {
        "downloaded": store.cache_dir() / card.saved.name,
        "damaged": store.cache_dir() / DAMAGED / "net.shapes-00000000.safetensors.1234",
        "unfinished": store.cache_dir() / ".other.shapes-00000000.safetensors.from-01234567.part",
        "measured": home / "known" / "1.json",
        "checked": home / "verified" / "1.json",
        "run": home / "runs" / "reprune-1" / "prune.json",
    }
    for kind, place in places.items():
        if kind != "downloaded":
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"12345")
    return places


def test_what_is_there_is_listed(littered: dict[str, Path]) -> None:
    found = caching.list_cache()
    assert {item.kind for item in found} == set(littered)
    sizes = {item.kind: item.size for item in found}
    assert sizes.pop("downloaded") == 5000 + (store.cache_dir() / "net.shapes.json").stat().st_size
    assert set(sizes.values()) == {5}
    assert not any("mine" in item.name for item in found)


def test_cleaning_removes_what_is_broken_and_what_was_named(littered: dict[str, Path]) -> None:
    assert {item.kind for item in caching.clean_cache()} == {"damaged", "unfinished"}
    assert {kind for kind, place in littered.items() if place.exists()} == {"downloaded", "measured", "checked", "run"}
    assert [item.name for item in caching.clean_cache(["net"])] == ["net.shapes"]
    assert zoo.list_models() == ["mine.shapes"]
    assert {item.kind for item in caching.clean_cache(everything=True)} == {"measured", "checked"}
    assert littered["run"].exists()
    with pytest.raises(ZooError, match="'mine' was not downloaded"):  # the user's own are never in the way
        caching.clean_cache(["mine"])
    assert (store.user_dir() / "mine.shapes.json").exists()


def test_a_download_that_is_under_way_is_left_alone(http: Mirror, home: Path) -> None:
    http.pause = 0.05
    code = "import sys, zoo; zoo.download('net.modelnet10', mirror=sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", code, http.url]) as process:
        deadline = time.monotonic() + 20
        while not list(store.cache_dir().glob(".net*.part")) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert caching.clean_cache() == []
        assert process.wait() == 0
    assert zoo.list_models() == ["net.modelnet10"]


def test_verifying_reads_every_file_whole(littered: dict[str, Path]) -> None:
    assert [each.problem for each in caching.verify_cache()] == [None, None]
    path = littered["downloaded"]
    state = path.stat()
    path.write_bytes(b"x" * 4999 + b"?")
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    (bad,) = (each for each in caching.verify_cache() if each.problem)
    assert bad.name == "net.shapes"
    assert "zoo download net.shapes" in str(bad.problem)
    path.unlink()
    assert "not here" in str(next(each.problem for each in caching.verify_cache() if each.name == "net.shapes"))


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["cache", *words])


def test_the_commands(littered: dict[str, Path]) -> None:
    assert "net.shapes" in run("list").stdout
    assert {item["kind"] for item in json.loads(run("list", "--json").stdout)} == set(littered)
    assert run("verify").exit_code == 0
    littered["downloaded"].write_bytes(b"y" * 5000)
    result = run("verify")
    assert result.exit_code == 1
    assert "BAD   net.shapes" in result.stdout.replace("BAD  ", "BAD   ")
    assert json.loads(run("verify", "--json").stdout)[1]["name"] == "net.shapes"
    assert "10B freed" in run("clean").stdout
    assert [item["kind"] for item in json.loads(run("clean", "net", "--json").stdout)] == ["downloaded"]
    assert run("clean", "--all").exit_code == 0
    assert "run" in run("list").stdout
    assert run("clean", "nothing").exit_code == 2


# -- hashed once ---------------------------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were really read."""
    read: list[Path] = []
    monkeypatch.setattr(verified, "sha256_of", lambda path: read.append(path) or sha256_of(path))
    monkeypatch.setattr(verified, "AT_REST", -1.0)
    return read


def test_a_file_that_did_not_change_is_hashed_once(tmp_path: Path, hashed: list[Path]) -> None:
    path, notes = tmp_path / "x", tmp_path / "notes"
    path.write_bytes(b"one")
    first = verified.sha256_of_known(path, notes)
    assert verified.sha256_of_known(path, notes) == first == sha256_of(path)
    assert hashed == [path]
    assert verified.sha256_of_known(path, notes, anew=True) == first
    assert len(hashed) == 2
    state = path.stat()
    path.write_bytes(b"two")  # of the same size, and its time set back
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert verified.sha256_of_known(path, notes) == sha256_of(path) != first
    for note in notes.iterdir():
        note.write_bytes(b"{")
    assert verified.sha256_of_known(path, notes) == sha256_of(path)
    assert len(hashed) == 4


def test_a_file_that_is_being_written_is_hashed_every_time(
    tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified, "AT_REST", 60.0)
    (tmp_path / "x").write_bytes(b"one")
    for _ in range(2):
        verified.sha256_of_known(tmp_path / "x", tmp_path / "notes")
    assert len(hashed) == 2


def test_notes_that_cannot_be_written_are_no_error(tmp_path: Path, hashed: list[Path]) -> None:
    (tmp_path / "x").write_bytes(b"one")
    (tmp_path / "notes").write_bytes(b"a file, no folder")
    assert verified.sha256_of_known(tmp_path / "x", tmp_path / "notes") == sha256_of(tmp_path / "x")


def test_an_entry_is_got_without_reading_it_twice(hashed: list[Path]) -> None:
    card = make(store.user_dir(), "net.shapes")
    for _ in range(3):
        zoo.download("net")
    assert hashed == [store.user_dir() / card.saved.name]
