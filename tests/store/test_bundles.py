"""Entries carried in one file, and mirrors written for a static web server."""

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from http_mirror import serving
from store_entries import make, plain

import zoo
from zoo import store
from zoo.cli import main
from zoo.errors import ZooError
from zoo.store import bundles as bundle
from zoo.store import folders, mirrors, publish


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    return empty_home


def everything(folder: Path) -> dict[str, bytes]:
    """All files but locks, which are empty."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert all(path.read_bytes() == b"" for path in files if path.suffix == ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.suffix != ".lock"}


def moved(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on another machine: nothing is here."""
    shutil.move(home, home.with_name("elsewhere"))
    monkeypatch.setattr(folders, "PACKAGE_DIR", home / "nothing")


# -- bundles -------------------------------------------------------------------------------------------------


def test_a_bundle_carries_entries_to_a_machine_without_a_network(
    home: Path, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = make(store.user_dir(), "mine.shapes", b"mine" * 1000)
    file = tmp_path / "two.zip"
    packed = bundle.bundle(["mine", "net"], file, mirror=[str(mirror)])
    assert [card.name for card in packed] == ["mine.shapes", "net.modelnet10"]
    moved(home, monkeypatch)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    installed = bundle.install(file)
    assert [card for card, _ in installed] == packed
    assert zoo.download("mine").read_bytes() == b"mine" * 1000
    assert zoo.info("mine") == own
    before = everything(store.cache_dir())
    assert bundle.install(file) == installed
    assert everything(store.cache_dir()) == before


def test_the_same_entries_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.shapes", "b.shapes"):
        make(store.user_dir(), name, name.encode() * 999)
    bundle.bundle(["a", "b"], tmp_path / "1.zip")
    bundle.bundle(["b", "a", "a.shapes"], tmp_path / "2.zip")
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "index.json"


def test_a_bundle_is_not_written_over_another_file(tmp_path: Path) -> None:
    make(store.user_dir(), "a.shapes")
    for name, message in (("there.zip", "exists already"), ("a.tar", r"ends in \.zip")):
        (tmp_path / name).write_bytes(b"before")
        with pytest.raises(ZooError, match=message):
            bundle.bundle(["a"], tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"before"
    bundle.bundle(["a"], tmp_path / "there.zip", overwrite=True)
    assert zipfile.is_zipfile(tmp_path / "there.zip")


def test_an_entry_that_an_own_one_would_hide_is_not_installed(tmp_path: Path) -> None:
    make(store.user_dir(), "a.shapes", b"theirs" * 500)
    bundle.bundle(["a"], tmp_path / "a.zip")
    make(store.user_dir(), "a.shapes", b"mine" * 500)
    with pytest.raises(ZooError, match=r"holds another a\.shapes than .*own: rename yours, or remove it"):
        bundle.install(tmp_path / "a.zip")


# -- mirrors -------------------------------------------------------------------------------------------------


def test_a_published_mirror_is_served_by_any_web_server(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(store.package_dir(), "a.shapes", b"shipped" * 400)
    make(store.user_dir(), "b.shapes", b"own" * 400)
    make(store.cache_dir(), "c.shapes", b"somebody else's" * 400)
    done = publish(tmp_path / "public")
    assert (done.new, done.replaced, done.unchanged) == (["a.shapes", "b.shapes"], [], [])
    moved(home, monkeypatch)
    with serving(tmp_path / "public") as http:
        assert zoo.download("b", mirror=http.url).read_bytes() == b"own" * 400
        assert list(store.cards(http.url)) == ["a.shapes", "b.shapes"]


def test_a_mirror_is_added_to_and_the_same_in_any_order(tmp_path: Path) -> None:
    for name in ("a.shapes", "b.shapes", "b-0.5x.shapes"):
        make(store.user_dir(), name, name.encode() * 999)
    publish(tmp_path / "at once")
    publish(tmp_path / "bit by bit", ["b*"])
    added = publish(tmp_path / "bit by bit", ["a", "b"])
    assert (added.new, added.unchanged) == (["a.shapes"], ["b.shapes"])
    publish(tmp_path / "bit by bit")
    assert everything(tmp_path / "at once") == everything(tmp_path / "bit by bit")
    assert len(everything(tmp_path / "at once")) == 7


def test_another_entry_of_a_name_is_replaced_only_when_asked(tmp_path: Path) -> None:
    make(store.user_dir(), "a.shapes", b"old" * 400)
    publish(tmp_path / "public")
    before = everything(tmp_path / "public")
    make(store.user_dir(), "a.shapes", b"new" * 400)
    with pytest.raises(ZooError, match=r"holds an entry a\.shapes already"):
        publish(tmp_path / "public")
    assert everything(tmp_path / "public") == before
    assert publish(tmp_path / "public", overwrite=True).replaced == ["a.shapes"]
    (store.user_dir() / next(iter(before))).unlink(missing_ok=True)
    publish(tmp_path / "fresh")
    assert everything(tmp_path / "public") == everything(tmp_path / "fresh")


def test_nothing_is_published_where_one_entry_may_not_be(tmp_path: Path) -> None:
    for name in ("b.shapes", "c.shapes"):
        make(store.user_dir(), name, b"old" * 400)
    publish(tmp_path / "public")
    before = everything(tmp_path / "public")
    for name in ("a.shapes", "b.shapes", "c.shapes"):
        make(store.user_dir(), name, b"new" * 400)
    with pytest.raises(ZooError, match=r"holds entries b\.shapes, c\.shapes already"):
        publish(tmp_path / "public")
    assert everything(tmp_path / "public") == before


# Dies where a kill would be worst: once some file of the mirror is renamed, or before the first one is removed.
DYING = """
import os, sys
from pathlib import Path
from zoo.store import folders, publishing as publish
folders.PACKAGE_DIR = Path(sys.argv[1])
replace, unlink = os.replace, Path.unlink
def dying(source, target):
    replace(source, target)
    if str(target).endswith(sys.argv[3]):
        os._exit(9)
def dying_too(path, missing_ok=False):
    if path.name.endswith(sys.argv[3]):
        os._exit(9)
    unlink(path, missing_ok)
if sys.argv[4] == "renamed":
    os.replace = dying
else:
    Path.unlink = dying_too
publish.publish(Path(sys.argv[2]), overwrite=True)
"""


@pytest.mark.parametrize(
    ("ending", "moment"),
    [
        (".publishing.json", "renamed"), (".safetensors", "renamed"), ("a.shapes.json", "renamed"),
        ("index.json", "renamed"), (".safetensors", "removed"), (".publishing.json", "removed"),
    ],
)  # fmt: skip
def test_what_a_killed_publisher_left_goes_with_the_next(tmp_path: Path, ending: str, moment: str) -> None:
    folder = tmp_path / "public"
    make(store.user_dir(), "b.shapes")
    versions = [make(store.user_dir(), "a.shapes", content * 400) for content in (b"new", b"old")]  # the old card
    publish(folder)
    (folder / "index.json").unlink()  # so that each of the moments comes
    (store.user_dir() / "a.shapes.json").write_text(versions[0].to_json())
    child = [sys.executable, "-c", DYING, store.package_dir(), folder, ending, moment]
    assert subprocess.run(list(map(str, child))).returncode == 9
    make(store.user_dir(), "a.shapes", b"third" * 400)
    publish(folder, overwrite=True)
    publish(tmp_path / "fresh")
    assert everything(folder) == everything(tmp_path / "fresh")


def test_what_others_write_into_a_mirror_meanwhile_stays(tmp_path: Path) -> None:
    folder = tmp_path / "public"
    make(store.user_dir(), "a.shapes")
    make(store.user_dir(), "b.shapes")
    publish(folder)
    make(store.user_dir(), "b.shapes", b"changed" * 400)
    others = [folder / name for name in ("a.shapes-01234567.safetensors", ".a.shapes.json.0123456789ab.part",
                                         "b.shapes-01234567.safetensors", "notes-01234567.safetensors")]  # fmt: skip
    for path in others:  # a checkpoint whose card is about to be written, for instance
        path.write_bytes(b"x")
    publish(folder, ["b"], overwrite=True)
    assert all(path.exists() for path in others)
    assert len(everything(folder)) == 5 + len(others)


@pytest.mark.parametrize(
    "note",
    [
        "{", "7", "{}", "[" * 100_000, '{"a":' * 100_000,
        '["../e-01234567.safetensors", ".x-01234567.safetensors", "e.safetensors", 7]',
    ],
)  # fmt: skip
def test_a_note_that_is_none_removes_nothing(tmp_path: Path, note: str) -> None:
    folder = tmp_path / "public"
    make(store.user_dir(), "a.shapes")
    publish(folder)
    before = everything(folder)
    others = [tmp_path / "e-01234567.safetensors", folder / ".x-01234567.safetensors", folder / "e.safetensors"]
    for path in others:
        path.write_bytes(b"x")
    (folder / ".publishing.json").write_text(note)
    publish(folder)
    assert all(path.exists() for path in others)
    others[2].unlink()
    others[1].unlink()
    assert everything(folder) == before


def test_a_parent_that_others_would_not_have_is_named(tmp_path: Path) -> None:
    make(store.package_dir(), "a.shapes")
    make(store.user_dir(), "b.shapes")
    for name, parent in (("a-pruned.shapes", "a.shapes"), ("b-pruned.shapes", "b.shapes"), ("c-pruned.shapes", "c")):
        make(store.user_dir(), name, parent=parent, licences=replace(plain("a.shapes").licences, parent="unknown"))
    folder = tmp_path / "public"
    assert publish(folder, ["*-pruned*"]).missing == {"b-pruned.shapes": "b.shapes"}
    assert f"b-pruned.shapes lacks its parent here: zoo publish {folder} b.shapes\n" in run("publish", folder, "a")
    assert publish(folder, ["b"]).missing == {}
    assert "lacks" not in run("publish", folder)


def test_a_card_that_is_listed_without_its_checkpoint_stays_listed(tmp_path: Path) -> None:
    large = make(store.user_dir(), "a.shapes")
    make(store.user_dir(), "b.shapes")
    folder = tmp_path / "public"
    publish(folder, ["a"])
    (folder / large.saved.name).unlink()
    publish(folder, ["b"])
    assert mirrors.fetch_index(str(folder)) == ["a.shapes", "b.shapes"]
    (folder / make(folder, "c.shapes").saved.name).unlink()  # was never listed
    publish(folder, ["b"])
    assert mirrors.fetch_index(str(folder)) == ["a.shapes", "b.shapes"]


def test_a_folder_is_named_as_it_can_be_typed_and_an_empty_name_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(store.user_dir(), "a.shapes")
    assert f"use it with --mirror '{tmp_path / 'a mirror'}'" in run("publish", tmp_path / "a mirror")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for words in (["publish", ""], ["download", "a", "--to", ""], ["bundle", "a", "-o", ""]):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].endswith("is empty: write . for the folder that you are in")
    with pytest.raises(ZooError, match="is empty"):
        zoo.download("a", to="")
    assert not list(Path.cwd().iterdir())


def test_what_cannot_be_published_is_said(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match="there is nothing to publish"):
        publish(tmp_path / "public")
    card = make(store.user_dir(), "a.shapes")
    for pattern, reason in (("b*", "no entry matches"), ("b", "no model 'b' in the zoo")):
        with pytest.raises(ZooError, match=reason):
            publish(tmp_path / "public", [pattern])
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "index.json").write_text('{"schema": 7, "cards": []}')
    with pytest.raises(ZooError, match=r"cannot be added to: .*schema 7"):
        publish(tmp_path / "public")
    (tmp_path / "public" / "index.json").unlink()
    (store.user_dir() / card.saved.name).write_bytes(b"y" * 5000)
    with pytest.raises(ZooError, match="is damaged"):
        publish(tmp_path / "public")
    assert everything(tmp_path / "public") == {}


# -- commands ------------------------------------------------------------------------------------------------


def run(*words: object) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_commands(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(store.user_dir(), "a.shapes")
    public, file = tmp_path / "public", tmp_path / "a.zip"
    assert "new           a.shapes" in run("publish", public)
    assert json.loads(run("publish", public, "a*", "--json"))["there"] == ["a.shapes"]
    assert json.loads(run("bundle", "a", "-o", file, "--json"))["entries"] == ["a.shapes"]
    assert "a.shapes" in run("bundle", "a", "-o", file, "--overwrite")
    moved(home, monkeypatch)
    assert str(store.cache_dir()) in run("bundle", "--install", file)
    assert json.loads(run("bundle", "--install", file, "--json"))[0]["name"] == "a.shapes"
    for words in (["bundle", "a"], ["bundle", "-o", file], ["bundle", "a", "--install", file]):
        assert CliRunner().invoke(main, [str(word) for word in words]).exit_code == 2
