"""Twenty processes that want the same entry, and processes killed at random moments: nothing corrupt is left, and the
next run succeeds. Real processes, a real server. ZOO_LONG_TESTS=1 kills 50 times each."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from http_mirror import serving
from store_entries import make, write_index

import zoo
from zoo import store
from zoo.cards import Card
from zoo.store import bundles as bundle
from zoo.store import publishing as publish

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="the signal is POSIX's")]
KILLS = 50 if os.environ.get("ZOO_LONG_TESTS") else 6

# What a child does first: its own ZOO_HOME comes from the environment; nothing is shipped but what the test says.
START = """
import sys
from pathlib import Path
import requests, tqdm  # slow to import, and no part of the work that is to be killed
from zoo import store
from zoo.store import bundles as bundle, folders, publishing as publish
folders.PACKAGE_DIR = Path(sys.argv[1])
print("ready", flush=True)
"""
DOWNLOAD = START + "print(store.download('net.shapes', mirror=sys.argv[2]), flush=True)"
INSTALL = START + "print(bundle.install(Path(sys.argv[2])), flush=True)"
PUBLISH = START + "print(publish.publish(Path(sys.argv[2])), flush=True)"
BUNDLE = START + "print(bundle.bundle(['net.shapes', 'other.shapes'], Path(sys.argv[2]), overwrite=True), flush=True)"
CLEAN = START + "print(store.clean_cache(everything=True), flush=True)"


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    return empty_home


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A mirror with two entries of 3 MB."""
    folder = tmp_path / "large"
    for name in ("net.shapes", "other.shapes"):
        make(folder, name, random.Random(name).randbytes(3_000_000))
    write_index(folder)
    return folder


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed(code: str, longest: float, chance: random.Random, *arguments: object) -> bool:
    """Run it, kill it at a random moment of its work; whether it had ended before."""
    with child(code, *arguments) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0, longest))
        ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
    return ended


def whole(folder: Path) -> list[str]:
    """The names of a folder's entries; each one's checkpoint is what its card says, and no other file has a name."""
    cards = [Card.of_entry(path.read_bytes(), path.stem) for path in folder.glob("[!.]*.json") if path.stem != "index"]
    for card in cards:
        assert hashlib.sha256((folder / card.saved.name).read_bytes()).hexdigest() == card.saved.sha256
    for path in folder.glob("[!.]*.safetensors"):  # those whose card is not there yet as well
        assert hashlib.sha256(path.read_bytes()).hexdigest()[:8] == path.stem.rpartition("-")[2]
    return sorted(card.name for card in cards)


def test_twenty_processes_share_one_download(large: Path, tmp_path: Path) -> None:
    with serving(large) as http:
        http.pause = 0.05  # a second in all, so that all of them want it meanwhile
        children = [child(DOWNLOAD, tmp_path / "shipped", http.url) for _ in range(20)]
        outputs = [process.communicate() for process in children]
    for process, (out, err) in zip(children, outputs, strict=True):
        assert process.returncode == 0, err
        assert Path(out.splitlines()[-1]).read_bytes() == random.Random("net.shapes").randbytes(3_000_000)
        assert err == ""
    assert len(http.checkpoints()) == 1
    assert whole(store.cache_dir()) == ["net.shapes"]


def many_kills(run: Callable[[int, random.Random], bool], check: Callable[[], None]) -> None:
    chance = random.Random(0)
    ended = 0
    for number in range(KILLS):
        ended += run(number, chance)
        check()
    assert ended < KILLS  # some were killed on the way


def test_a_killed_download_leaves_nothing_corrupt_and_the_next_goes_on(large: Path, tmp_path: Path, home: Path) -> None:
    with serving(large) as http:
        http.pause = 0.01

        def run(number: int, chance: random.Random) -> bool:
            return killed(DOWNLOAD, 0.25, chance, tmp_path / "shipped", http.url)

        def check() -> None:
            if not store.cache_dir().exists():
                return
            if whole(store.cache_dir()):  # it was done: begin again
                for path in store.cache_dir().glob("net*"):
                    path.unlink()

        many_kills(run, check)
        assert zoo.download("net", mirror=http.url).stat().st_size == 3_000_000
    assert whole(store.cache_dir()) == ["net.shapes"]
    assert any(asked for asked in http.ranges), "no download was gone on with"
    assert not list(store.cache_dir().glob(".net*"))


def test_a_killed_install_leaves_nothing_corrupt_and_the_next_succeeds(large: Path, tmp_path: Path) -> None:
    file = tmp_path / "two.zip"
    bundle.bundle(["net.shapes", "other.shapes"], file, mirror=[str(large)])
    for path in store.cache_dir().glob("[!.]*"):
        path.unlink()

    def run(number: int, chance: random.Random) -> bool:
        return killed(INSTALL, 0.05, chance, tmp_path / "shipped", file)

    def check() -> None:
        if whole(store.cache_dir()) == ["net.shapes", "other.shapes"]:
            for path in store.cache_dir().glob("[!.]*"):
                path.unlink()

    many_kills(run, check)
    assert [card.name for card, _ in bundle.install(file)] == ["net.shapes", "other.shapes"]
    assert whole(store.cache_dir()) == ["net.shapes", "other.shapes"]


def test_a_killed_publish_leaves_the_mirror_before_or_after(tmp_path: Path, home: Path) -> None:
    folder, versions = tmp_path / "public", [random.Random(number).randbytes(1_000_000) for number in range(2)]
    make(store.user_dir(), "other.shapes", versions[0])

    def run(number: int, chance: random.Random) -> bool:
        for path in store.user_dir().glob("net.*"):
            path.unlink()
        make(store.user_dir(), "net.shapes", versions[number % 2])
        code = PUBLISH.replace("sys.argv[2])", "sys.argv[2]), overwrite=True")
        return killed(code, 0.04, chance, tmp_path / "shipped", folder)

    def check() -> None:
        whole(folder)
        if (folder / "index.json").exists():
            with serving(folder) as http:
                path = zoo.download("net.shapes", mirror=http.url, to=tmp_path / "got", overwrite=True)
                assert path.read_bytes() in versions

    def checked() -> None:
        saved = [(path, path.read_bytes()) for path in store.user_dir().glob("net.*")]
        for path, _ in saved:  # or the download would be the own entry
            path.unlink()
        for path in store.cache_dir().glob("net.*"):
            path.unlink()
        check()
        for path, data in saved:
            path.write_bytes(data)

    many_kills(run, checked)
    publish.publish(folder, overwrite=True)
    assert whole(folder) == ["net.shapes", "other.shapes"]
    suffixes = sorted(path.suffix for path in folder.iterdir() if path.name != ".locks")
    assert suffixes == [".json"] * 3 + [".safetensors"] * 2


def test_a_killed_bundle_leaves_the_file_before_or_after(large: Path, tmp_path: Path) -> None:
    file, before = tmp_path / "two.zip", b"another file"
    bundle.bundle(["net.shapes", "other.shapes"], file, mirror=[str(large)])
    after = file.read_bytes()

    def run(number: int, chance: random.Random) -> bool:
        file.write_bytes(before)
        return killed(BUNDLE, 0.06, chance, tmp_path / "shipped", file)

    def check() -> None:
        assert file.read_bytes() in (before, after)

    many_kills(run, check)
    bundle.bundle(["net.shapes", "other.shapes"], file, overwrite=True)
    assert file.read_bytes() == after


def test_a_killed_clean_leaves_whole_entries_and_the_next_removes_the_rest(large: Path, tmp_path: Path) -> None:
    names = ["net.shapes", "other.shapes"]

    def run(number: int, chance: random.Random) -> bool:
        for name in names:
            zoo.download(name, mirror=str(large))
        return killed(CLEAN, 0.01, chance, tmp_path / "shipped")

    def check() -> None:
        left = whole(store.cache_dir())
        assert set(left) <= set(names)
        assert {result.problem for result in store.verify_cache()} <= {None}
        assert store.list_models() == left

    many_kills(run, check)
    store.clean_cache(everything=True)
    assert [path for path in store.cache_dir().glob("[!.]*") if path.is_file()] == []
