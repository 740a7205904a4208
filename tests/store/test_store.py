"""The store: where entries are found, how they are saved, what a kill leaves (a whole entry)."""

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
import torch
from store_entries import make, plain

import zoo
from zoo import models, store
from zoo.cards import Card
from zoo.errors import ZooError
from zoo.workflows import save_entry


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    return empty_home


# -- where entries are found ---------------------------------------------------------------------------------


def test_an_empty_zoo_is_empty() -> None:
    assert zoo.list_models() == []
    with pytest.raises(ZooError, match="the zoo is empty"):
        zoo.info("dgcnn")


def test_the_home_is_the_systems_place_unless_the_environment_says_otherwise(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (store.user_dir(), store.cache_dir()) == (home / "own", home / "cache")
    monkeypatch.delenv("ZOO_HOME")
    assert store.home().name == "pruned-zoo"


def test_shipped_comes_before_own_before_cache(home: Path) -> None:
    for number, folder in enumerate((store.cache_dir(), store.user_dir(), store.package_dir())):
        card = make(folder, "net.shapes", parameters=number)
        assert zoo.info("net") == card


def test_without_a_data_set_a_name_means_a_shipped_entry_then_an_own_one_and_then_a_downloaded_one() -> None:
    places = (store.cache_dir, ("modelnet10", "imagenet")), (store.user_dir, ("shapes", "cifar10"))
    for place, datasets in (*places, (store.package_dir, ("shapes", "modelnet10"))):
        for dataset in datasets:  # of several the most difficult
            card = make(place(), f"net.{dataset}", dataset=dataset, parameters=len(str(place())))
            assert zoo.info("net") == card
            assert zoo.download("net") == place() / card.saved.name
    assert zoo.info("net.imagenet").dataset == "imagenet"
    assert zoo.info("net.shapes") == store.read_card(store.package_dir() / "net.shapes.json")


def test_patterns_match_with_and_without_the_data_set() -> None:
    for name in ("net.shapes", "net-0.5x.shapes", "other.shapes"):
        make(store.user_dir(), name)
    assert zoo.list_models() == ["net-0.5x.shapes", "net.shapes", "other.shapes"]
    assert zoo.list_models("net*") == ["net-0.5x.shapes", "net.shapes"]
    assert zoo.list_models("*-0.5x") == ["net-0.5x.shapes"]
    assert zoo.list_models("net") == ["net.shapes"]
    assert zoo.list_models("absent*") == []


def test_mirrors_are_listed_only_when_asked(mirror: Path) -> None:
    assert store.cards() == {}
    assert list(store.cards(str(mirror))) == ["net-pruned-0.5x.shapes", "net.modelnet10", "net.shapes"]


@pytest.mark.parametrize("odd", [1, b"x", [], None, Path("a.shapes")])
def test_what_is_no_text_is_no_name(odd: object) -> None:
    for function in (zoo.info, zoo.download, *([] if odd is None else [zoo.list_models])):
        with pytest.raises(ZooError, match="is no name of an entry"):
            function(odd)  # type: ignore[operator]


def test_hidden_and_half_files_are_no_entries() -> None:
    make(store.user_dir(), "net.shapes")
    (store.user_dir() / "._net.shapes.json").write_bytes(b"\0\5\26\7")
    (store.user_dir() / ".other.json.1234.part").write_text("{")
    assert zoo.list_models() == ["net.shapes"]


@pytest.mark.parametrize("text", ["{", '{"schema": 1}', plain("other.shapes").to_json()])
def test_a_broken_card_is_left_out_and_named_with_what_to_type(text: str, caplog: pytest.LogCaptureFixture) -> None:
    remedies = ((store.user_dir(), "mend it or move it away"), (store.cache_dir(), "zoo download bad.shapes"))
    for folder, remedy in remedies:
        make(folder, "good.shapes")
        make(folder, "bad.shapes")
        place = folder / "bad.shapes.json"
        place.write_text(text)
        caplog.clear()
        assert zoo.list_models() == ["good.shapes"]
        assert f"{place} is not a card that can be used: " in caplog.text
        assert remedy in caplog.text
        with pytest.raises(ZooError, match="no model 'bad' in the zoo"):
            zoo.info("bad")
        place.unlink()


def test_a_broken_card_of_a_download_is_fetched_again(mirror: Path) -> None:
    path = zoo.download("net", mirror=str(mirror))
    place = store.cache_dir() / "net.modelnet10.json"
    good = place.read_bytes()
    place.write_bytes(b"{")
    assert zoo.download("net.modelnet10", mirror=str(mirror)) == path
    assert place.read_bytes() == good


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_a_pipe_or_a_device_as_a_card_is_left_out_at_once(caplog: pytest.LogCaptureFixture) -> None:
    make(store.user_dir(), "net.shapes")
    os.mkfifo(store.user_dir() / "pipe.shapes.json")
    (store.user_dir() / "zero.shapes.json").symlink_to("/dev/zero")
    assert zoo.list_models() == ["net.shapes"]
    for name in ("pipe", "zero"):
        reason = "it is no ordinary file; mend it or move it away"
        assert f"{store.user_dir() / name}.shapes.json is not a card that can be used: {reason}" in caplog.text


# -- saving --------------------------------------------------------------------------------------------------


def model_and_card(name: str = "net.shapes", seed: int = 0) -> tuple[torch.nn.Module, Card]:
    torch.manual_seed(seed)
    model = models.build("mlp", num_classes=3, widths={"hidden1": 7, "hidden2": 4}, in_features=5)
    return model, plain(name)


def test_a_saved_entry_is_got_again() -> None:
    model, card = model_and_card()
    saved = save_entry(model, card)
    assert zoo.info("net") == saved
    loaded, x = zoo.get("net"), torch.randn(6, 5)
    assert torch.equal(loaded(x), model(x))
    assert not loaded.training
    assert sum(p.numel() for p in loaded.parameters()) == saved.parameters


def test_a_name_that_is_taken_is_not_given_again_unless_asked() -> None:
    first = save_entry(*model_and_card())
    assert save_entry(*model_and_card()) == first  # the same entry again is no clash
    with pytest.raises(ZooError, match=r"holds an entry net\.shapes already"):
        save_entry(*model_and_card(seed=1))
    assert zoo.info("net") == first
    second = save_entry(*model_and_card(seed=1), overwrite=True)
    assert zoo.info("net") == second != first
    assert sorted(path.name for path in store.user_dir().iterdir()) == sorted(["net.shapes.json", second.saved.name])


def test_an_own_entry_cannot_hide_behind_a_shipped_one() -> None:
    make(store.package_dir(), "net.shapes")
    for overwrite in (False, True):
        with pytest.raises(ZooError, match="shipped and would hide yours"):
            save_entry(*model_and_card(), overwrite=overwrite)
    assert not store.user_dir().exists()


def test_widths_of_card_and_model_must_agree() -> None:
    model, card = model_and_card()
    card.widths["hidden1"] = 8
    with pytest.raises(ZooError, match="its widths are not those of the model"):
        save_entry(model, card)
    assert not store.user_dir().exists()


def test_adding_a_file_that_the_card_does_not_describe_is_refused(tmp_path: Path) -> None:
    card = make(tmp_path / "from", "net.shapes")
    path = tmp_path / "from" / card.saved.name
    store.copy_entry(path, card)
    assert store.verified_path(card) == store.user_dir() / card.saved.name
    path.write_bytes(b"y" * 5000)
    with pytest.raises(ZooError, match="is damaged"):
        store.copy_entry(path, card, tmp_path / "to")
    assert not (tmp_path / "to").exists()


# -- damage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "remedy"),
    [
        (store.cache_dir, "zoo download net.shapes"),
        (store.user_dir, "zoo train net.shapes"),
        (lambda: store.package_dir(), "pip install --force-reinstall"),
    ],
)
@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + b"y"])
def test_a_damaged_file_is_refused_with_what_to_type(
    folder: Callable[[], Path], remedy: str, damage: Callable[[bytes], bytes]
) -> None:
    card = make(folder(), "net.shapes")
    path = folder() / card.saved.name
    path.write_bytes(damage(path.read_bytes()))
    for use in (lambda: zoo.get("net"), lambda: zoo.download("net"), lambda: store.verified_path(card)):
        with pytest.raises(ZooError, match="is damaged") as caught:
            use()
        assert remedy in str(caught.value)
        assert str(path) in str(caught.value)


def test_a_card_without_its_file_says_what_to_type() -> None:
    card = make(store.cache_dir(), "net.shapes")
    (store.cache_dir() / card.saved.name).unlink()
    with pytest.raises(ZooError, match=r"not on this machine: type zoo download net\.shapes"):
        zoo.get("net")


# -- kills ---------------------------------------------------------------------------------------------------

ADDER = """
import sys
import filelock  # slow to import, and no part of the work that is to be killed
from collections.abc import Callable
from pathlib import Path
from zoo import store
from zoo.cards import Card
versions = [Path(folder) for folder in sys.argv[1:]]
print("ready", flush=True)
while True:
    for folder in versions:
        card = Card.from_json((folder / "net.shapes.json").read_text())
        store.copy_entry(folder / card.saved.name, card, overwrite=True)
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
            assert hashlib.sha256(store.verified_path(card).read_bytes()).hexdigest() == card.saved.sha256
            seen.add(card.saved.sha256)
    assert seen  # some kill came after a first entry


def test_writing_an_entry_removes_the_checkpoint_that_its_card_named_and_no_other(tmp_path: Path) -> None:
    """A card that was moved away to be mended still needs its checkpoint."""
    source = make(tmp_path, "net.shapes", b"new" * 400)
    other = store.user_dir() / "net.shapes-01234567.safetensors"
    old = make(store.user_dir(), "net.shapes", b"old" * 400)
    other.write_bytes(b"x")
    os.utime(other, (time.time() - 3600,) * 2)
    store.copy_entry(tmp_path / source.saved.name, source, overwrite=True)
    assert not (store.user_dir() / old.saved.name).exists()
    assert other.exists()


def test_importing_the_store_imports_no_torch() -> None:
    code = "import sys, zoo; zoo.list_models(); sys.exit('torch' in sys.modules or 'requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
