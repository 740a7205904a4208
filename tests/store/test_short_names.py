"""A name without a data set: what comes from elsewhere never changes what it meant, and says how it is named itself."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from store_entries import make, write_index

import zoo
from zoo import store
from zoo.cli import main
from zoo.errors import ZooError
from zoo.store import bundles, short_names


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    return empty_home


def foreign(folder: Path, *names: str) -> Path:
    """A mirror of somebody else's entries."""
    for name in names:
        make(folder, name, b"foreign" + name.encode(), dataset=name.rpartition(".")[2] if "." in name else "shapes")
    write_index(folder)
    return folder


def bundled(folder: Path, *names: str) -> Path:
    """The same as one file."""
    with zipfile.ZipFile(f"{folder}.zip", "w", zipfile.ZIP_STORED) as archive:
        for path in foreign(folder, *names).iterdir():
            archive.write(path, path.name)
    return Path(f"{folder}.zip")


def ours(place: Path, name: str) -> None:
    make(place, name, dataset=name.rpartition(".")[2])


@pytest.mark.parametrize("place", [store.package_dir, store.user_dir, store.cache_dir])
@pytest.mark.parametrize("way", ["bundle", "download"])
def test_a_foreign_entry_takes_no_short_name_and_is_had_by_its_full_one(
    place, way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours(place(), "net.shapes")
    if way == "bundle":
        bundles.install(bundled(tmp_path / "theirs", "net.imagenet", "net-new.imagenet"))
    else:
        for name in ("net.imagenet", "net-new.imagenet"):
            zoo.download(name, mirror=foreign(tmp_path / "theirs", "net.imagenet", "net-new.imagenet"))
    for _ in range(2):  # from now on too
        assert zoo.info("net").name == "net.shapes"
        assert store.find("net").name == "net.shapes"
        assert zoo.download("net").parent == place()
    assert zoo.info("net.imagenet").dataset == "imagenet"
    assert zoo.download("net.imagenet").read_bytes() == b"foreignnet.imagenet"
    assert zoo.info("net-new").name == "net-new.imagenet"  # meant nothing before
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == ["net still means net.shapes: for what was added write the full name, net.imagenet"]


def test_a_mirror_that_is_looked_at_takes_no_short_name_either(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mirror = str(foreign(tmp_path / "theirs", "net.imagenet", "net", "other.imagenet"))
    again = str(foreign(tmp_path / "more", "other.imagenet", "other.shapes"))
    for place in (store.cache_dir, store.user_dir, store.package_dir):
        ours(place(), "net.shapes")
        caplog.clear()
        assert zoo.info("net", mirror=mirror).name == "net.shapes"
        assert f"net means net.shapes: for the net.imagenet of {mirror} write the full name" in caplog.text
        assert zoo.info("net.imagenet", mirror=mirror).name == "net.imagenet"
    caplog.clear()
    assert zoo.info("other", mirror=[again, mirror]).name == "other.imagenet"
    assert zoo.info("net.shapes", mirror=mirror).name == "net.shapes"
    assert caplog.text == ""


def test_of_downloads_the_first_keeps_the_name_whatever_is_replaced_or_added_again(tmp_path: Path) -> None:
    mirror = foreign(tmp_path / "theirs", "net.shapes", "net.imagenet", "net.modelnet10")
    zoo.download("net.shapes", mirror=mirror)
    zoo.download("net.modelnet10", mirror=mirror)
    zoo.download("net.imagenet", mirror=mirror)
    assert zoo.info("net").name == "net.shapes"
    make(mirror, "net.shapes", b"another version")
    store.clean_cache(["net.shapes"])
    assert zoo.info("net").name == "net.imagenet"  # what it meant is gone
    zoo.download("net.shapes", mirror=mirror)
    assert zoo.info("net").name == "net.imagenet"
    store.clean_cache(["net"])  # the same that the name means elsewhere
    assert zoo.list_models() == ["net.modelnet10", "net.shapes"]


def test_an_easier_entry_is_added_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours(store.cache_dir(), "net.imagenet")
    bundles.install(bundled(tmp_path / "theirs", "net.shapes"))
    assert zoo.info("net").name == "net.imagenet"
    assert caplog.text == ""
    assert not (store.cache_dir() / short_names.NOTE).exists()


def test_an_entry_whose_whole_name_means_another_one_is_refused(tmp_path: Path) -> None:
    """Its name has no data set, so that no full name would be left for it."""
    for place in (store.package_dir, store.user_dir, store.cache_dir):
        ours(place(), "net.shapes")
        with pytest.raises(ZooError, match=r"holds an entry net, and that name means net\.shapes here: unpack "):
            bundles.install(bundled(tmp_path / "theirs", "net"))
        assert zoo.info("net").name == "net.shapes"
        shutil.rmtree(place())
    bundles.install(tmp_path / "theirs.zip")
    assert zoo.info("net").name == "net"
    ours(store.cache_dir(), "net.imagenet")
    assert zoo.info("net").name == "net"  # a full name means itself


def test_an_own_entry_of_just_that_name_is_meant_by_it() -> None:
    ours(store.package_dir(), "net.shapes")
    make(store.user_dir(), "net")
    assert zoo.info("net").name == "net"


@pytest.mark.parametrize("place", [store.package_dir, store.user_dir])
def test_another_version_of_an_entry_is_not_installed_and_the_advice_can_be_followed(place, tmp_path: Path) -> None:
    make(place(), "net.shapes", b"ours")
    with pytest.raises(ZooError, match=r"holds another net\.shapes than ") as caught:
        bundles.install(bundled(tmp_path / "theirs", "net.shapes"))
    advice = str(caught.value)
    assert "rm '" not in advice
    if place is store.user_dir:
        assert advice.endswith("rename yours, or remove it: zoo remove net.shapes")
        assert CliRunner().invoke(main, ["remove", "net.shapes", "--yes"]).exit_code == 0
        assert bundles.install(tmp_path / "theirs.zip")
        return
    file = next((tmp_path / "theirs").glob("*.safetensors")).name
    assert advice.endswith(f"unpack {tmp_path}/theirs.zip, and give the path of its {file} wherever a NAME is taken")
    shutil.unpack_archive(tmp_path / "theirs.zip", tmp_path / "unpacked")
    assert store.checkpoint_at(tmp_path / "unpacked" / file)[1].name == "net.shapes"
    assert store.verified_path(zoo.info("net")).read_bytes() == b"ours"


def test_a_bundle_replaces_no_downloaded_entry_as_a_mirror_does_not(tmp_path: Path) -> None:
    make(store.cache_dir(), "net.shapes", b"ours")
    files = {path: path.read_bytes() for path in store.cache_dir().iterdir()}
    file = bundled(tmp_path / "theirs", "net.shapes")
    assert zoo.download("net.shapes", mirror=str(file)).read_bytes() == b"ours"
    result = CliRunner().invoke(main, ["bundle", "--install", str(file)])
    assert result.exit_code == 2
    assert result.output.endswith(": to replace that one remove it first: zoo cache clean net.shapes\n")
    assert {path: path.read_bytes() for path in store.cache_dir().iterdir() if path.is_file()} == files
    assert CliRunner().invoke(main, ["cache", "clean", "net.shapes"]).exit_code == 0
    for _ in range(2):  # an equal one is left
        ((card, path),) = bundles.install(file)
        assert (card, path.read_bytes()) == (zoo.info("net.shapes"), b"foreignnet.shapes")


def test_of_a_downloaded_entry_a_bundle_replaces_what_is_damaged(tmp_path: Path) -> None:
    file = bundled(tmp_path / "theirs", "net.shapes")
    ((_, path),) = bundles.install(file)
    for damaged in (path, path.with_name("net.shapes.json")):
        damaged.write_bytes(b"?")
        assert bundles.install(file)[0][1].read_bytes() == b"foreignnet.shapes"


def test_a_broken_card_of_the_package_is_not_to_be_moved_away(caplog: pytest.LogCaptureFixture) -> None:
    make(store.package_dir(), "net.shapes")
    (store.package_dir() / "net.shapes.json").write_text("{")
    assert zoo.list_models() == []
    assert "install the package again: pip install" in caplog.text
    assert "move it away" not in caplog.text


@pytest.mark.parametrize(
    "note", ["", "{}", "7", "[]", "[" * 100_000, '{"a":' * 500 + "1" + "}" * 500, '{"net": 7, "a": ["b"]}',
             '{"net": "../../own/net.shapes", "x": "net.shapes"}', '{"net": "net.gone"}']
)  # fmt: skip
def test_a_note_that_is_none_changes_nothing_and_is_replaced(note: str, tmp_path: Path) -> None:
    ours(store.cache_dir(), "net.shapes")
    place = store.cache_dir() / short_names.NOTE
    place.write_text(note)
    assert zoo.info("net").name == "net.shapes"
    zoo.download("net.imagenet", mirror=foreign(tmp_path / "theirs", "net.imagenet"))
    assert zoo.info("net").name == "net.shapes"
    assert json.loads(place.read_text())["net"] == "net.shapes"


def test_the_commands_say_it(tmp_path: Path) -> None:
    ours(store.package_dir(), "net.shapes")
    file = bundled(tmp_path / "theirs", "net.imagenet")
    result = CliRunner().invoke(main, ["bundle", "--install", str(file), "--json"])
    assert (result.exit_code, json.loads(result.stdout)[0]["name"]) == (0, "net.imagenet")
    assert json.loads(CliRunner().invoke(main, ["info", "net", "--json"]).stdout)["name"] == "net.shapes"
    assert json.loads(CliRunner().invoke(main, ["info", "net", "--json", "--mirror", str(file)]).stdout)["name"] == (
        "net.shapes"
    )
