"""The files in the zoo's folder: listed, cleaned, verified."""

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
from zoo import store
from zoo.cli import main
from zoo.errors import ZooError
from zoo.store import cache as caching
from zoo.store.short_names import NOTE
from zoo.store.transaction import entry_lock
from zoo.transfer import DAMAGED
from zoo.utils import new_file


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
    assert {kind for kind, place in littered.items() if place.exists()} == {"downloaded", "measured", "run"}
    assert [item.name for item in caching.clean_cache(["net"])] == ["net.shapes"]
    assert zoo.list_models() == ["mine.shapes"]
    assert {item.kind for item in caching.clean_cache(everything=True)} == {"measured"}
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


@pytest.mark.parametrize(
    "name",
    [
        "net.shapes.json", "net.shapes-01234567.safetensors", NOTE,
        ".net.shapes-01234567.safetensors.from-01234567.part.json",
    ],
)  # fmt: skip
def test_a_file_that_is_being_written_is_left_alone(name: str) -> None:
    """Cards, checkpoints, and the notes of downloads and of short names, which are written beside in turn."""
    with entry_lock(store.cache_dir(), "net.shapes"), new_file(store.cache_dir() / name) as out:
        assert caching.clean_cache() == []
        out.write(b"{}")
    assert (store.cache_dir() / name).read_bytes() == b"{}"


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
