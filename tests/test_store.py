"""The store: where entries are found, what a hostile mirror can do (nothing), what a kill leaves (a whole entry)."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

import zoo
from zoo import files, models, store
from zoo.cards import Accuracy, Card, File, Licences
from zoo.errors import ZooError


def make(folder: Path, name: str, content: bytes = b"x" * 5000, **changes: object) -> Card:
    """An entry that needs no torch: a card and any bytes."""
    sha256 = hashlib.sha256(content).hexdigest()
    file = File(name=f"{name}-{sha256[:8]}.safetensors", size=len(content), sha256=sha256)
    card = plain(name, file=file, **changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(card.to_json())
    (folder / file.name).write_bytes(content)
    return card


def plain(name: str, **changes: object) -> Card:
    fields = {
        "name": name,
        "arch": "mlp",
        "dataset": "shapes",
        "num_classes": 3,
        "sample_shape": (5,),
        "options": {"in_features": 5},
        "widths": {"hidden1": 7, "hidden2": 4},
        "recipe": {"command": f"zoo train {name}"},
        "accuracy": Accuracy.of("test", 3, 4),
        "parameters": 89,
        "licences": Licences(code="Apache-2.0", weights="Apache-2.0", data="none"),
        **changes,
    }
    return Card(**fields)  # type: ignore[arg-type]


def write_index(folder: Path, schema: int = 1) -> None:
    cards = sorted(path.name for path in folder.glob("*.json") if path.name != "index.json")
    (folder / "index.json").write_text(json.dumps({"schema": schema, "cards": cards}))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty zoo with nothing shipped, nothing owned and no mirror."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    monkeypatch.setattr(store, "shipped", lambda: tmp_path / "shipped")
    return tmp_path / "home"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A mirror folder with two data sets of one network and a pruned one."""
    folder = tmp_path / "mirror"
    for name in ("net.shapes", "net.modelnet10", "net-pruned-0.5x.shapes"):
        make(folder, name, name.encode() * 1000, dataset=name.rpartition(".")[2])
    write_index(folder)
    return folder


# -- where entries are found ---------------------------------------------------------------------------------


def test_an_empty_zoo_is_empty() -> None:
    assert zoo.list_models() == []
    with pytest.raises(ZooError, match="the zoo is empty"):
        zoo.info("dgcnn")


def test_the_home_is_the_systems_place_unless_the_environment_says_otherwise(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (store.own(), store.cache()) == (home / "own", home / "cache")
    monkeypatch.delenv("ZOO_HOME")
    assert store.home().name == "pruned-zoo"


def test_shipped_comes_before_own_before_cache(home: Path) -> None:
    for number, folder in enumerate((store.cache(), store.own(), store.shipped())):
        card = make(folder, "net.shapes", parameters=number)
        assert zoo.info("net") == card


def test_patterns_match_with_and_without_the_data_set() -> None:
    for name in ("net.shapes", "net-0.5x.shapes", "other.shapes"):
        make(store.own(), name)
    assert zoo.list_models() == ["net-0.5x.shapes", "net.shapes", "other.shapes"]
    assert zoo.list_models("net*") == ["net-0.5x.shapes", "net.shapes"]
    assert zoo.list_models("*-0.5x") == ["net-0.5x.shapes"]
    assert zoo.list_models("net") == ["net.shapes"]
    assert zoo.list_models("absent*") == []


def test_mirrors_are_listed_only_when_asked(mirror: Path) -> None:
    assert store.cards() == {}
    assert list(store.cards(str(mirror))) == ["net-pruned-0.5x.shapes", "net.modelnet10", "net.shapes"]


def test_hidden_and_half_files_are_no_entries() -> None:
    make(store.own(), "net.shapes")
    (store.own() / "._net.shapes.json").write_bytes(b"\0\5\26\7")
    (store.own() / ".other.json.1234.part").write_text("{")
    assert zoo.list_models() == ["net.shapes"]


@pytest.mark.parametrize("text", ["{", '{"schema": 1}', plain("other.shapes").to_json()])
def test_a_broken_card_is_named_with_what_to_type(text: str) -> None:
    make(store.own(), "net.shapes")
    place = store.own() / "net.shapes.json"
    place.write_text(text)
    with pytest.raises(ZooError, match="not a card that can be used") as caught:
        zoo.list_models()
    assert f"rm '{place}'" in str(caught.value)


# -- saving --------------------------------------------------------------------------------------------------


def model_and_card(name: str = "net.shapes", seed: int = 0) -> tuple[torch.nn.Module, Card]:
    torch.manual_seed(seed)
    model = models.build("mlp", num_classes=3, widths={"hidden1": 7, "hidden2": 4}, in_features=5)
    return model, plain(name)


def test_a_saved_entry_is_got_again() -> None:
    model, card = model_and_card()
    saved = store.save_entry(model, card)
    assert zoo.info("net") == saved
    loaded, x = zoo.get("net"), torch.randn(6, 5)
    assert torch.equal(loaded(x), model(x))
    assert not loaded.training
    assert sum(p.numel() for p in loaded.parameters()) == saved.parameters


def test_a_name_that_is_taken_is_not_given_again_unless_asked() -> None:
    first = store.save_entry(*model_and_card())
    assert store.save_entry(*model_and_card()) == first  # the same entry again is no clash
    with pytest.raises(ZooError, match=r"holds an entry net\.shapes already"):
        store.save_entry(*model_and_card(seed=1))
    assert zoo.info("net") == first
    second = store.save_entry(*model_and_card(seed=1), overwrite=True)
    assert zoo.info("net") == second != first
    assert sorted(path.name for path in store.own().iterdir()) == sorted(["net.shapes.json", second.saved.name])


def test_an_own_entry_cannot_hide_behind_a_shipped_one() -> None:
    make(store.shipped(), "net.shapes")
    for overwrite in (False, True):
        with pytest.raises(ZooError, match="shipped and would hide yours"):
            store.save_entry(*model_and_card(), overwrite=overwrite)
    assert not store.own().exists()


def test_widths_of_card_and_model_must_agree() -> None:
    model, card = model_and_card()
    card.widths["hidden1"] = 8
    with pytest.raises(ZooError, match="its widths are not those of the model"):
        store.save_entry(model, card)
    assert not store.own().exists()


def test_adding_a_file_that_the_card_does_not_describe_is_refused(tmp_path: Path) -> None:
    card = make(tmp_path / "from", "net.shapes")
    path = tmp_path / "from" / card.saved.name
    store.add(path, card)
    assert store.path_of(card) == store.own() / card.saved.name
    path.write_bytes(b"y" * 5000)
    with pytest.raises(ZooError, match="is damaged"):
        store.add(path, card, tmp_path / "to")
    assert not (tmp_path / "to").exists()


# -- damage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "remedy"),
    [
        (store.cache, "zoo download net.shapes"),
        (store.own, "zoo train net.shapes"),
        (lambda: store.shipped(), "pip install --force-reinstall"),
    ],
)
@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + b"y"])
def test_a_damaged_file_is_refused_with_what_to_type(
    folder: Callable[[], Path], remedy: str, damage: Callable[[bytes], bytes]
) -> None:
    card = make(folder(), "net.shapes")
    path = folder() / card.saved.name
    path.write_bytes(damage(path.read_bytes()))
    for use in (lambda: zoo.get("net"), lambda: zoo.download("net"), lambda: store.path_of(card)):
        with pytest.raises(ZooError, match="is damaged") as caught:
            use()
        assert remedy in str(caught.value)
        assert str(path) in str(caught.value)


def test_a_card_without_its_file_says_what_to_type() -> None:
    card = make(store.cache(), "net.shapes")
    (store.cache() / card.saved.name).unlink()
    with pytest.raises(ZooError, match=r"not on this machine: type zoo download net\.shapes"):
        zoo.get("net")


# -- downloads -----------------------------------------------------------------------------------------------


def test_what_is_here_is_not_fetched(mirror: Path) -> None:
    card = make(store.own(), "net.shapes")
    assert zoo.download("net", mirror=str(mirror)) == store.own() / card.saved.name
    assert not store.cache().exists()


@pytest.mark.parametrize("as_url", [str, Path.as_uri])
def test_a_folder_is_a_mirror(mirror: Path, as_url: Callable[[Path], str], tmp_path: Path) -> None:
    path = zoo.download("net", mirror=as_url(mirror), to=tmp_path / "to")
    assert path.parent == tmp_path / "to"
    assert path.read_bytes() == b"net.modelnet10" * 1000  # the most demanding data set
    assert zoo.info("net").dataset == "modelnet10"
    shutil.rmtree(mirror)
    assert zoo.download("net") == store.cache() / path.name
    assert (tmp_path / "to" / "net.modelnet10.json").exists()


def test_a_missing_file_of_a_known_entry_is_fetched_again(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_MIRROR", f"{mirror.parent / 'nowhere'}, {mirror}")
    path = zoo.download("net-pruned-0.5x")
    path.unlink()
    assert zoo.download("net-pruned-0.5x") == path
    assert path.read_bytes() == b"net-pruned-0.5x.shapes" * 1000


def test_a_name_that_no_mirror_has_suggests_near_ones(mirror: Path) -> None:
    with pytest.raises(ZooError, match=r"no model 'net-prune-0\.5x\.shapes' on ") as caught:
        zoo.download("net-prune-0.5x.shapes", mirror=[str(mirror)])
    assert "did you mean net-pruned-0.5x.shapes" in str(caught.value)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("{", "not a mirror's index"),
        ('{"schema": 1}', "not a mirror's index"),
        ("[]", "not a mirror's index"),
        ('{"schema": 2, "cards": []}', "pip install --upgrade"),
        ('{"schema": 1, "cards": ["../../etc/passwd.json"]}', "cannot be a card"),
    ],
)
def test_an_index_that_cannot_be_read_is_refused(mirror: Path, index: str, reason: str) -> None:
    (mirror / "index.json").write_text(index)
    with pytest.raises(ZooError, match=reason):
        zoo.download("net", mirror=str(mirror))
    assert not store.cache().exists()


def test_a_mirrors_card_that_leads_elsewhere_is_refused(mirror: Path, tmp_path: Path) -> None:
    place = mirror / "net.shapes.json"
    name = json.loads(place.read_text())["file"]["name"]
    place.write_text(place.read_text().replace(name, "../../evil.safetensors"))
    with pytest.raises(ZooError, match="not a plain file name"):
        zoo.download("net.shapes", mirror=str(mirror))
    assert not list(tmp_path.rglob("evil*"))


class Mirror:
    """A real HTTP server over a folder; ``trick`` says what it does with checkpoints."""

    def __init__(self, folder: Path) -> None:
        outer = self
        self.trick = "none"
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                outer.answer(self, folder / self.path[1:])

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler, path: Path) -> None:
        trick = self.trick if path.suffix == ".safetensors" or self.trick.startswith("all ") else "none"
        data = path.read_bytes() if path.exists() else b""
        length = len(data)
        if trick == "html":
            data, length = b"<html>try later</html>", 22
        if trick == "flipped":
            data = data[:100] + bytes([data[100] ^ 1]) + data[101:]
        if trick == "longer":
            data, length = data + b"more", length + 4
        if trick == "shorter":
            data, length = data[:-4], length - 4
        if trick == "no length, cut":
            data, length = data[:50], -1
        handler.send_response({"404": 404, "500": 500, "all loop": 302}.get(trick, 200 if path.exists() else 404))
        if trick == "all loop":
            handler.send_header("Location", handler.path)
        if length >= 0:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if trick == "stalled":
            handler.wfile.write(data[:100])
            time.sleep(0.6)
        else:
            handler.wfile.write(data[: len(data) // 2] if trick == "cut" else data)


@pytest.fixture
def http(mirror: Path) -> Iterator[Mirror]:
    served = Mirror(mirror)
    thread = threading.Thread(target=served.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        served.server.shutdown()
        served.server.server_close()
        thread.join()


def test_an_http_mirror_gives_what_it_has(http: Mirror) -> None:
    path = zoo.download("net-pruned-0.5x", mirror=http.url + "/")
    assert path.read_bytes() == b"net-pruned-0.5x.shapes" * 1000
    asked = len(http.asked)
    assert zoo.download("net-pruned-0.5x", mirror=http.url) == path
    assert len(http.asked) == asked == 3  # index, card, checkpoint, once


TRICKS = {
    "cut": "broke off|ended after",
    "no length, cut": "ended after 50 of",
    "shorter": "ended after",
    "longer": "is longer than the",
    "flipped": "has the SHA-256",
    "html": "ended after 22 of",
    "404": "answered 404",
    "500": "answered 500",
    "stalled": "stalled|stopped answering",
    "all loop": "redirects in a loop",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_mirror_that_misbehaves_is_named_and_the_next_one_asked(
    http: Mirror, mirror: Path, trick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_TIMEOUT", (0.3, 0.3))
    http.trick = trick
    with pytest.raises(ZooError, match=TRICKS[trick]) as caught:
        zoo.download("net", mirror=http.url)
    assert str(caught.value).startswith(f"cannot download net: {http.url}: ")
    assert not store.cache().exists() or not list(store.cache().iterdir())
    path = zoo.download("net", mirror=[http.url, str(mirror)])
    assert path.read_bytes() == b"net.modelnet10" * 1000
    assert sorted(file.name for file in store.cache().iterdir()) == sorted([path.name, "net.modelnet10.json"])


def test_a_mirror_that_is_not_there_is_named(http: Mirror) -> None:
    http.server.shutdown()
    http.server.server_close()
    with pytest.raises(ZooError, match=f"cannot download net: {http.url}: .*refused"):
        zoo.download("net", mirror=http.url)


def test_a_full_disk_is_no_fault_of_the_mirror(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ZooError, match=r"cannot write .*No space left on device; nothing was written"):
        zoo.download("net", mirror=[str(mirror), str(mirror)])
    assert not list(store.cache().iterdir())


# -- kills ---------------------------------------------------------------------------------------------------

ADDER = """
import sys
from pathlib import Path
from zoo import store
from zoo.cards import Card
versions = [Path(folder) for folder in sys.argv[1:]]
print("ready", flush=True)
while True:
    for folder in versions:
        card = Card.from_json((folder / "net.shapes.json").read_text())
        store.add(folder / card.saved.name, card, overwrite=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the signal is POSIX's")
def test_kill_minus_nine_while_replacing_leaves_one_whole_entry(tmp_path: Path, home: Path) -> None:
    versions = [tmp_path / "a", tmp_path / "b"]
    cards = [make(folder, "net.shapes", os.urandom(3_000_000)) for folder in versions]
    chance = random.Random(0)
    seen = set()
    for _ in range(10):
        command = [sys.executable, "-c", ADDER, *map(str, versions)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
        if (home / "own" / "net.shapes.json").exists():
            card = zoo.info("net")
            assert card in cards
            assert hashlib.sha256(store.path_of(card).read_bytes()).hexdigest() == card.saved.sha256
            seen.add(card.saved.sha256)
    assert seen  # some kill came after a first entry


def test_half_files_of_the_dead_are_swept_away_those_of_the_living_are_not(tmp_path: Path) -> None:
    dead, living = tmp_path / ".x.bin.0123.part", tmp_path / ".x.bin.4567.part"
    for part in (dead, living):
        part.touch()
    os.utime(dead, (time.time() - 3600,) * 2)
    with files.new_file(tmp_path / "x.bin") as out:
        out.write(b"whole")
    assert (tmp_path / "x.bin").read_bytes() == b"whole"
    assert (dead.exists(), living.exists()) == (False, True)


def test_importing_the_store_imports_no_torch() -> None:
    code = "import sys, zoo; zoo.list_models(); sys.exit('torch' in sys.modules or 'requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
