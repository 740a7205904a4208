"""Passwords in addresses: shown nowhere, kept nowhere."""

from __future__ import annotations

import logging
import shutil
import traceback
from pathlib import Path

import pytest
from click.testing import CliRunner
from http_mirror import Mirror
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_entries import MODELNET

import zoo
from zoo import store
from zoo.cli import main
from zoo.datasets import load
from zoo.errors import ZooError
from zoo.transfer import FetchError, download_bytes, redact, redact_in

# Addresses as people write them, with a password whose every part would be a secret.
SECRET = [
    "http://bob:s3cr3t@127.0.0.1:9/zoo", "http://bob:s3cr3t@127.0.0.1:99999/zoo", "http://bob:s3cr3t@127.0.0.1:port/zoo",
    "http://bob:s3cr3t@", "http://bob:s3cr3t@/zoo", "http:///bob:s3cr3t@127.0.0.1/zoo", "http://bob:s3cr3t@[::1/zoo",
    "http://bob:x@s3cr3t@127.0.0.1:9/zoo", "http://bob:x/s3cr3t@127.0.0.1:9/zoo", "http://localhost:7/s3cr3t@127.0.0.1:9/zoo",
    "http://bob:x?s3cr3t@127.0.0.1:9/zoo", "http://bob:x#s3cr3t@127.0.0.1:9/zoo", "http://bob:x[s3cr3t@127.0.0.1/zoo",
    "http://bob:s3cr3t@127.0.0.1\u2100/zoo", "http://bob%3As3cr3t%40127.0.0.1/zoo", "http://s3cr3t@127.0.0.1:9/zoo",
    "http://127.0.0.1:9/zoo?token=s3cr3t", "http://127.0.0.1:9/zoo#s3cr3t", "bob:s3cr3t@127.0.0.1:/zoo",
    "http:/bob:s3cr3t@127.0.0.1/zoo", "//bob:s3cr3t@127.0.0.1/zoo", "ftp://bob:s3cr3t@127.0.0.1/zoo",
    "b:s3cr3t@127.0.0.1/zoo", "s3cr3t@localhost:9/zoo",
    "file://bob:s3cr3t@127.0.0.1/zoo", "hf://bob:s3cr3t@owner/repository", "http://bob:s3cr3t\n@127.0.0.1:9/zoo",
]  # fmt: skip


@pytest.fixture(autouse=True)
def home(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("zoo.transfer.http.TIMEOUT", (2, 2))
    return empty_home


@pytest.mark.parametrize("address", SECRET)
def test_no_error_has_the_password(address: str) -> None:
    """Nor a traceback, with the errors that led to it."""
    assert "s3cr3t" not in redact(address)
    with pytest.raises(FetchError) as caught:
        download_bytes(address, "index.json")
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ZooError) as refused:
        zoo.download("net", mirror=[address])
    assert "s3cr3t" not in "".join(traceback.format_exception(refused.value))
    with pytest.raises(ZooError) as odd:
        zoo.download("net", mirror=[address, 7])  # type: ignore[list-item]
    assert "s3cr3t" not in str(odd.value)


def check_password(before: str, after: str, form: str) -> None:
    address = form.format(f"{before}s3cr3t{after}")
    with pytest.raises(FetchError) as caught:
        download_bytes(address, "index.json")
    assert "s3cr3t" not in f"{redact(address)} {''.join(traceback.format_exception(caught.value))}"


ENDS = ["{}@127.0.0.1:1/x", "{}@[::1", "{}@", "{}@127.0.0.1:1?x"]
PASSWORDS = given(
    st.text(max_size=20),
    st.text(max_size=20),
    st.sampled_from(["{}@127.0.0.1:1/x", "{}@[::1", "{}@", "{}@127.0.0.1:1?x"]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@PASSWORDS
def test_no_password_is_shown(before: str, after: str, form: str) -> None:
    check_password(before, after, f"http://localhost:{form}")


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@PASSWORDS
def test_no_password_is_shown_of_many(before: str, after: str, form: str) -> None:
    check_password(before, after, f"http://localhost:{form}")


@pytest.mark.parametrize("proxy", SECRET[:11])
def test_no_error_has_the_password_of_a_proxy(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, proxy if "http" in name else "")
    for address in ("http://127.0.0.1:9/zoo", "https://127.0.0.1:9/zoo"):
        with pytest.raises(FetchError) as caught:
            download_bytes(address, "index.json")
        assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("address", SECRET)
def test_no_command_prints_the_password(
    address: str, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zoo")
    monkeypatch.setenv("ZOO_DATA_MIRROR", address)
    monkeypatch.setenv("ZOO_MIRROR", address)
    said = []
    with pytest.raises(ZooError) as caught:
        load("modelnet10", "test", data_dir=tmp_path, download=True)
    said.append(str(caught.value))
    for words in (["list", "--mirror", address], ["info", "net"], ["download", "net"], ["info", address]):
        said.append(CliRunner().invoke(main, words).output)
    shutil.copytree(mirror, store.user_dir())
    for checkpoint in store.user_dir().glob("*.safetensors"):
        checkpoint.unlink()
    page = CliRunner().invoke(main, ["info", "net", "--mirror", address])
    assert "zoo download net.modelnet10 --mirror " in page.output
    assert "s3cr3t" not in "\n".join([*said, page.output, caplog.text])


@pytest.mark.parametrize(
    "words",
    [
        "list ADDRESS", "info ADDRESS", "download ADDRESS", "download net --verify-with ADDRESS", "remove ADDRESS",
        "cache clean ADDRESS", "publish x ADDRESS", "bundle --install ADDRESS", "convert ADDRESS --arch mlp --add x",
        "predict net ADDRESS", "predict net ADDRESS --json", "publish ADDRESS", "publish --new-key ADDRESS",
        "download net --to ADDRESS", "bundle net -o ADDRESS.zip", "export net -o ADDRESS", "convert x --out ADDRESS",
        "train mlp --dataset modelnet10 --data-dir ADDRESS", "reprune mlp --weights ADDRESS --dataset shapes --eps 0.1",
    ],
)  # fmt: skip
def test_an_address_in_the_place_of_another_word_is_not_shown_whole(
    words: str, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(mirror, store.user_dir())
    said = CliRunner().invoke(main, words.replace("ADDRESS", "http://bob:x/s3cr3t@127.0.0.1:9/zoo").split()).output
    assert "***@127.0.0.1:9/zoo" in said
    assert "s3cr3t" not in said
    assert not Path("http:").exists()


@pytest.mark.parametrize(
    "write",
    [
        lambda to: zoo.download("net", to=to), lambda to: store.publish(to), lambda to: store.bundle(["net"], to),
        lambda to: store.download("net", to=Path(to)),
    ],
)  # fmt: skip
def test_nothing_is_written_to_an_address(write, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(mirror, store.user_dir())
    with pytest.raises(ZooError, match=r"^http://?\*\*\*@h/x\.zip is an address: give a file or folder of this "):
        write("http://bob:s3cr3t@h/x.zip")
    assert not Path("http:").exists()


def test_a_user_without_a_scheme_is_hidden() -> None:
    for user in ("b:s3cr3t", "s3cr3t", "bob:s3cr3t"):
        assert redact(f"{user}@localhost:9") == "***@localhost:9"


def test_the_rest_of_a_text_stays() -> None:
    for text in ("hf://owner/nets@v1/zoo: gone; a@b, http://h/x", "me@work wrote 'https://cdn.example.org/p@1.0/x'."):
        assert redact_in(text) == text
    assert redact_in("(http://a:b@h/x), see 'ftp://c@d'") == "(http://***@h/x), see 'ftp://***@d'"


def test_the_data_set_that_is_downloaded_is_named_without_the_password(
    http: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_DATA_MIRROR", http.url.replace("//", "//bob:s3cr3t@"))
    with pytest.raises(ZooError, match=r"cannot download http://\*\*\*@127"):
        load("modelnet10", "test", data_dir=tmp_path, download=True)
    assert f"Downloading {http.url.replace('//', '//***@')}/ModelNet10.zip" in capsys.readouterr().err
    assert http.headers[0]["authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "address",
    [
        "hf://owner/nets@v1/zoo", "https://cdn.example.org/npm/zoo@1.0/x", "/home/me@work/zoo", "me@work:zoo",
        "C:\\zoo@work", "file:///home/me@work/zoo", "http://127.0.0.1:80/zoo", "two.zip", "./a:b/c@d", "C:/zoo@work",
        "me@work:2nd/zoo", "me@work/zoo",
    ],
)  # fmt: skip
def test_addresses_without_a_password_stay_as_they_are(address: str) -> None:
    assert redact(address) == address


def test_what_is_kept_on_disk_has_no_password_and_is_the_owners_alone(
    http: Mirror, mirror: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    secret = http.url.replace("//", "//bob:s3cr3t@")
    monkeypatch.setattr("zoo.transfer.download.MAX_ATTEMPTS", 1)
    http.trick = "cut"
    with pytest.raises(ZooError, match="broke off"):
        zoo.download("net", mirror=secret)
    parts = sorted(store.cache_dir().glob(".*.part*"))
    assert [part.name.rpartition(".")[2] for part in parts] == ["part", "json"]
    assert {part.stat().st_mode & 0o777 for part in parts} == {0o600}
    assert not any(b"s3cr3t" in path.read_bytes() for path in home.rglob("*") if path.is_file())
    http.trick = "none"
    path = zoo.download("net", mirror=http.url.replace("//", "//bob:changed@"))  # the file is the same one
    assert path.read_bytes() == MODELNET
    assert int(http.ranges[-1].removeprefix("bytes=").rstrip("-")) > 120_000
    (home / "usual").touch()
    assert path.stat().st_mode == (home / "usual").stat().st_mode
