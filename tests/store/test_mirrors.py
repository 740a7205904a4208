"""Downloads from mirrors: what a hostile or broken one can do (nothing), and which one is asked next."""

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from http_mirror import Mirror, serving
from store_entries import MODELNET, make, visible

import zoo
from zoo import store
from zoo.errors import ZooError
from zoo.store import bundles as bundle
from zoo.transfer import DAMAGED
from zoo.transfer import http as http_source


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    return empty_home


def test_what_is_here_is_not_fetched(mirror: Path) -> None:
    card = make(store.user_dir(), "net.shapes")
    assert zoo.download("net", mirror=str(mirror)) == store.user_dir() / card.saved.name
    assert not store.cache_dir().exists()


def bundled(folder: Path) -> str:
    """The mirror as one file."""
    with zipfile.ZipFile(folder.parent / "all.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    return str(folder.parent / "all.zip")


@pytest.mark.parametrize("as_mirror", [str, Path.as_uri, bundled])
def test_a_folder_or_a_bundle_is_a_mirror(mirror: Path, as_mirror: Callable[[Path], str], tmp_path: Path) -> None:
    path = zoo.download("net", mirror=as_mirror(mirror), to=tmp_path / "to")
    assert path.parent == tmp_path / "to"
    assert path.read_bytes() == MODELNET
    assert zoo.info("net").dataset == "modelnet10"
    shutil.rmtree(mirror)
    assert zoo.download("net") == store.cache_dir() / path.name
    assert (tmp_path / "to" / "net.modelnet10.json").exists()


def test_a_missing_file_of_a_known_entry_is_fetched_again(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_MIRROR", f"{mirror.parent / 'nowhere'}, {mirror}")
    path = zoo.download("net-pruned-0.5x")
    path.unlink()
    assert zoo.download("net-pruned-0.5x") == path
    assert path.read_bytes() == b"net-pruned-0.5x.shapes" * 20_000


def test_a_damaged_download_is_set_aside_and_fetched_again(mirror: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = zoo.download("net", mirror=str(mirror))
    good = path.read_bytes()
    wrong = good[:-1] + b"?"
    path.write_bytes(wrong)
    with pytest.raises(ZooError, match=r"is damaged \(its SHA-256 begins with"):  # nowhere to fetch it from
        zoo.download("net")
    assert path.read_bytes() == wrong
    assert zoo.download("net", mirror=str(mirror)) == path
    assert path.read_bytes() == good
    (aside,) = (store.cache_dir() / DAMAGED).iterdir()
    assert aside.read_bytes() == wrong
    assert f"{path} is damaged: set aside as {aside}" in caplog.text


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
    assert not store.cache_dir().exists()


def test_a_mirrors_card_that_leads_elsewhere_is_refused(mirror: Path, tmp_path: Path) -> None:
    place = mirror / "net.shapes.json"
    name = json.loads(place.read_text())["file"]["name"]
    place.write_text(place.read_text().replace(name, "../../evil.safetensors"))
    with pytest.raises(ZooError, match="not a plain file name"):
        zoo.download("net.shapes", mirror=str(mirror))
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/x", "hf://", "hf://owner", "s3://bucket/x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ZooError, match=r"hf://owner/repository"):
        zoo.download("net", mirror=address)


# -- http ----------------------------------------------------------------------------------------------------


def test_an_http_mirror_gives_what_it_has(http: Mirror) -> None:
    path = zoo.download("net-pruned-0.5x", mirror=http.url + "/")
    assert path.read_bytes() == b"net-pruned-0.5x.shapes" * 20_000
    asked = len(http.asked)
    assert zoo.download("net-pruned-0.5x", mirror=http.url) == path
    assert len(http.asked) == asked == 3  # index, card, checkpoint, once


TRICKS = {
    "no ranges, cut": "broke off",
    "always cut": "broke off|ended after",
    "no length, cut": "ended after 271250 of 280000",
    "lying length": "it has 280007 bytes, the card states 280000",
    "shorter": "it has 279996 bytes, the card states 280000",
    "longer": "it has 280004 bytes, the card states 280000",
    "no length, longer": "is longer than the 280000 bytes",
    "flipped": "has the SHA-256 .* what came was set aside as",
    "html": "a web page instead of the file",
    "html, right length": "has the SHA-256",
    "404": "answered 404",
    "500": "answered 500",
    "stalled": "stalled|stopped answering",
    "all loop": "redirects in a loop",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_mirror_that_misbehaves_is_named_and_the_next_one_asked(
    http: Mirror, mirror: Path, trick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_source, "TIMEOUT", (0.3, 0.3))
    http.trick = trick
    with pytest.raises(ZooError, match=TRICKS[trick]) as caught:
        zoo.download("net", mirror=http.url)
    assert str(caught.value).startswith(f"cannot download net: {http.url}: ")
    assert visible(store.cache_dir()) == []
    path = zoo.download("net", mirror=[http.url, str(mirror)])
    assert path.read_bytes() == MODELNET
    assert visible(store.cache_dir()) == sorted([path.name, "net.modelnet10.json"])


def test_a_card_without_its_checkpoint_says_how_that_is_made(http: Mirror, mirror: Path, tmp_path: Path) -> None:
    shutil.copytree(mirror, tmp_path / "whole")
    next(mirror.glob("net.modelnet10-*")).unlink()
    for base, reason in ((http.url, "answered 404 .*"), (str(mirror), "there is no such file")):
        with pytest.raises(ZooError, match=f"{reason}; to make net.modelnet10 again type zoo train net.modelnet10$"):
            zoo.download("net", mirror=base)
    assert zoo.download("net", mirror=[http.url, str(tmp_path / "whole")]).read_bytes() == MODELNET


def test_a_mirror_that_is_not_there_is_named(mirror: Path) -> None:
    with serving(mirror) as gone:
        pass
    with pytest.raises(ZooError, match=f"cannot download net: {gone.url}: .*refused"):
        zoo.download("net", mirror=gone.url)


def test_a_full_disk_is_no_fault_of_the_mirror(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ZooError, match=r"cannot write .*No space left on device; nothing was written"):
        zoo.download("net", mirror=[str(mirror), str(mirror)])
    assert [path for path in store.cache_dir().rglob("*") if path.is_file() and path.suffix != ".lock"] == []


# -- offline -------------------------------------------------------------------------------------------------


def test_offline_never_asks_the_network_and_says_what_is_missing(
    http: Mirror, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(ZooError, match=r"cannot download net: .*ZOO_OFFLINE is set.*zoo bundle net -o net\.zip"):
        zoo.download("net", mirror=[http.url, "hf://owner/repository"])
    assert http.asked == []
    assert zoo.download("net", mirror=[http.url, str(mirror)]).read_bytes() == MODELNET  # a folder is no network
    assert http.asked == []
    monkeypatch.setenv("ZOO_OFFLINE", "0")
    assert zoo.download("net.shapes", mirror=http.url).read_bytes() == b"net.shapes" * 20_000


# -- Hugging Face --------------------------------------------------------------------------------------------


def test_a_hugging_face_repository_is_a_mirror(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's addresses and token, our own verified download; a local server stands for the site."""
    hub = pytest.importorskip("huggingface_hub")
    site = mirror.parent / "site"
    inside = site / "owner" / "nets" / "resolve" / "v1" / "zoo"
    inside.parent.mkdir(parents=True)
    shutil.copytree(mirror, inside)
    with serving(site) as served:
        real = hub.hf_hub_url
        monkeypatch.setattr(hub, "hf_hub_url", lambda *args, **kw: real(*args, endpoint=served.url, **kw))
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        path = zoo.download("net", mirror="hf://owner/nets@v1/zoo")
    assert path.read_bytes() == MODELNET
    assert served.asked[0] == "/owner/nets/resolve/v1/zoo/index.json"
    assert served.headers[0]["authorization"] == "Bearer hf_secret"


def test_without_the_package_a_hugging_face_repository_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ZooError, match=r"pip install 'pruned-zoo\[hf\]'"):
        zoo.download("net", mirror="hf://owner/nets")


def test_a_bundle_that_is_damaged_is_refused(mirror: Path) -> None:
    place = Path(bundled(mirror))
    data = bytearray(place.read_bytes())
    at = data.index(MODELNET[:100]) + 50
    data[at] ^= 1
    place.write_bytes(data)
    with pytest.raises(ZooError, match=r"Bad CRC-32|damaged"):
        zoo.download("net.modelnet10", mirror=str(place))
    with pytest.raises(ZooError, match="is no bundle"):
        bundle.install(mirror / "index.json")
    assert visible(store.cache_dir()) == []


# -- odd addresses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["http://[::1", "http://a..b/", "a\0b", "~nobody-of-that-name/x", "file://elsewhere/x", "http://127.0.0.1:1/x?y=1",
     f"http://{'a' * 70}.example/"],
)  # fmt: skip
def test_addresses_that_lead_nowhere_are_one_sentence_and_the_next_is_asked(mirror: Path, address: str) -> None:
    with pytest.raises(ZooError, match="cannot download net: "):
        zoo.download("net", mirror=[address])
    assert zoo.download("net", mirror=[address, str(mirror)]).read_bytes() == MODELNET


def test_a_secret_in_an_address_is_not_shown(mirror: Path) -> None:
    with serving(mirror) as gone:
        pass
    with pytest.raises(ZooError) as caught:
        zoo.download("net", mirror=gone.url.replace("http://", "http://user:secret@"))
    assert "secret" not in str(caught.value)


def test_a_pipe_in_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "piped").mkdir()
    try:
        os.mkfifo(tmp_path / "piped" / "index.json")
    except (AttributeError, OSError):
        pytest.skip("needs a system with named pipes")
    with pytest.raises(ZooError, match="no such file"):
        zoo.download("net", mirror=str(tmp_path / "piped"))


# -- names that are taken ------------------------------------------------------------------------------------


def test_a_card_that_names_another_entrys_file_is_refused(mirror: Path) -> None:
    place = mirror / "net.shapes.json"
    name = json.loads(place.read_text())["file"]["name"]
    place.write_text(place.read_text().replace(name, "mine-00000000.safetensors"))
    with pytest.raises(ZooError, match=r"of this entry and SHA-256 it must be net\.shapes-"):
        zoo.download("net.shapes", mirror=str(mirror))


def test_another_entry_in_the_folder_of_to_is_replaced_only_when_asked(mirror: Path, tmp_path: Path) -> None:
    mine = make(tmp_path / "to", "net.modelnet10", b"mine" * 99, dataset="modelnet10")
    with pytest.raises(ZooError, match=r"holds an entry net\.modelnet10 already"):
        zoo.download("net", mirror=str(mirror), to=tmp_path / "to")
    assert (tmp_path / "to" / mine.saved.name).read_bytes() == b"mine" * 99
    path = zoo.download("net", mirror=str(mirror), to=tmp_path / "to", overwrite=True)
    assert path.read_bytes() == MODELNET


def test_the_file_of_an_own_entry_comes_from_a_mirror_only_if_it_is_that_one(mirror: Path, tmp_path: Path) -> None:
    mine = make(store.user_dir(), "net.modelnet10", b"mine" * 99, dataset="modelnet10")
    (store.user_dir() / mine.saved.name).unlink()
    with pytest.raises(ZooError, match="is another one than yours"):
        zoo.download("net", mirror=str(mirror))
    shutil.copy(mirror / "net.modelnet10.json", store.user_dir())
    assert zoo.download("net", mirror=str(mirror)).read_bytes() == MODELNET
    assert zoo.info("net") == store.read_card(store.user_dir() / "net.modelnet10.json")


def test_another_version_of_a_download_says_that_it_takes_its_place(
    mirror: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = make(store.cache_dir(), "net.modelnet10", b"before" * 99, dataset="modelnet10")
    (store.cache_dir() / before.saved.name).unlink()
    assert zoo.download("net", mirror=str(mirror)).read_bytes() == MODELNET
    assert "another one than was downloaded before" in caplog.text


def test_a_mirror_that_is_down_is_left_out_of_the_list(mirror: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(mirror) as gone:
        pass
    (mirror / "net.shapes.json").unlink()
    assert list(store.cards([gone.url, str(mirror)])) == ["net-pruned-0.5x.shapes", "net.modelnet10"]
    assert "net.shapes of " in caplog.text
    assert f"{gone.url} is left out: " in caplog.text
