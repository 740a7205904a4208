"""Signed mirrors: what a server without the key can do with them (withhold and keep back, and nothing else)."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fuzzing import CASES, fuzz
from http_mirror import Mirror
from store_entries import make, write_index

import zoo
from zoo import store
from zoo.cli import main
from zoo.errors import ZooError
from zoo.store import mirrors, signatures

pytest.importorskip("minisign")
NAMES = ["a.shapes", "b.shapes"]
Attack = Callable[[Path], object]


@pytest.fixture(autouse=True)
def home(empty_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ZOO_VERIFY_WITH", raising=False)
    for name in NAMES:
        make(empty_home / "own", name, name.encode() * 999)
    return empty_home


def run(*words: object, answers: str = "") -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], input=answers)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    store.new_key(tmp_path / "zoo.key")
    return tmp_path / "zoo.key"


@pytest.fixture
def signed(tmp_path: Path, key: Path, home: Path) -> Path:
    """A signed mirror; the entries that it has are on this machine no more."""
    store.publish(tmp_path / "mirror", sign=store.Signer(key))
    shutil.rmtree(home)
    return tmp_path / "mirror"


def test_from_a_key_to_a_verified_download(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the words that the commands print, and a password."""
    made = run("publish", "--new-key", tmp_path / "zoo.key", answers="pass\npass\n")
    assert made.exit_code == 0, made.output
    assert (tmp_path / "zoo.key").stat().st_mode & 0o777 == 0o600
    public = made.stdout.split("\n")[-2].split()[0]
    assert public.startswith("RW")
    assert public in (tmp_path / "zoo.pub").read_text()
    wrong = run("publish", tmp_path / "mirror", "--sign", tmp_path / "zoo.key", answers="guess\n")
    assert (wrong.exit_code, "cannot sign: wrong password" in wrong.stderr) == (2, True)
    published = run("publish", tmp_path / "mirror", "--sign", tmp_path / "zoo.key", answers="pass\n")
    assert f": --verify-with {public} takes nothing else" in published.stdout
    shutil.rmtree(home)
    for verify_with in (public, tmp_path / "zoo.pub"):
        done = run(
            "download", "a", "--mirror", tmp_path / "mirror", "--verify-with", verify_with, "--to", tmp_path / "to"
        )
        assert done.exit_code == 0, done.output
        assert "no signature" not in done.stderr
        assert "ZOO_VERIFY_WITH" not in os.environ
        shutil.rmtree(home)
    monkeypatch.setenv("ZOO_VERIFY_WITH", public)
    assert zoo.download("b", mirror=tmp_path / "mirror").read_bytes() == b"b.shapes" * 999
    assert zoo.info("a", mirror=tmp_path / "mirror").name == "a.shapes"
    assert run("list", "--mirror", tmp_path / "mirror").stdout.count("shapes") >= 2


def test_unsigned_stays_possible_and_says_so(tmp_path: Path, home: Path) -> None:
    published = run("publish", tmp_path / "mirror")
    assert "not signed: who downloads trusts the server (--sign KEY)" in published.stdout
    assert json.loads((tmp_path / "mirror" / "index.json").read_text()).keys() == {"schema", "cards"}
    shutil.rmtree(home)
    done = run("download", "a", "--mirror", tmp_path / "mirror")
    assert done.exit_code == 0
    assert "no signature was asked for (--verify-with KEY): its mirror alone vouches for it" in done.stderr


def test_a_signature_of_the_tool_itself_is_accepted(tmp_path: Path) -> None:
    """The example of minisign's own documentation."""
    public = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
    (tmp_path / "x.minisig").write_text(
        "untrusted comment: signature from minisign secret key\n"
        "RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n"
        "trusted comment: timestamp:1555779966\tfile:test\n"
        "QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==\n"
    )
    signatures.check_signature(str(tmp_path), "x", b"test", public)
    with pytest.raises(signatures.SignatureError, match="is not what RWQf"):
        signatures.check_signature(str(tmp_path), "x", b"tesT", public)


def another_network(folder: Path) -> None:
    """In the place of an entry, whole in itself: card, checkpoint and index fit one another."""
    for old in folder.glob("a.shapes*"):
        old.unlink()
    make(folder, "a.shapes", b"evil" * 999)


def another_index(folder: Path) -> None:
    another_network(folder)
    write_index(folder)


def another_digest(folder: Path) -> None:
    another_network(folder)
    cards = {name: (folder / f"{name}.json").read_bytes() for name in NAMES}
    (folder / "index.json").write_bytes(mirrors.index_bytes(NAMES, cards))


def signed_by_somebody_else(folder: Path) -> None:
    another_digest(folder)
    store.new_key(folder.parent / "other.key")
    spoiled(folder, store.Signer(folder.parent / "other.key").sign("index.json", (folder / "index.json").read_bytes()))


def spoiled(folder: Path, content: bytes = b"\xff\n\n\n") -> None:
    (folder / "index.json.minisig").write_bytes(content)


def one_bit(folder: Path) -> None:
    text = bytearray((folder / "index.json.minisig").read_bytes())
    text[100] ^= 1
    spoiled(folder, bytes(text))


def another_time(folder: Path) -> None:
    text = (folder / "index.json.minisig").read_text()
    spoiled(folder, text.replace("timestamp:", "timestamp:9").encode())


ATTACKS: dict[str, tuple[Attack, str]] = {
    "another network": (another_network, "not the card whose SHA-256 the signed index has"),
    "another index": (another_index, "is not what"),
    "another digest in the index": (another_digest, "is not what"),
    "another key": (signed_by_somebody_else, "incompatible key identifiers"),
    "no signature": (
        lambda folder: (folder / "index.json.minisig").unlink(),
        r"it is not signed \(index\.json\.minisig",
    ),
    "no text": (spoiled, "is not what"),
    "nothing": (lambda folder: spoiled(folder, b""), "is not what"),
    "endless": (lambda folder: spoiled(folder, b"x" * 99_999), "longer than"),
    "one bit": (one_bit, "is not what"),
    "another time": (another_time, "is not what"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_the_key_did_not_sign_is_not_taken(
    signed: Path, tmp_path: Path, attack: str, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(signed, tmp_path / "good")
    change, reason = ATTACKS[attack]
    change(signed)
    with store.verifying_with(str(tmp_path / "zoo.pub")):
        with pytest.raises(ZooError, match=reason):
            zoo.download("a", mirror=signed)
        with pytest.raises(ZooError):
            zoo.info("a", mirror=signed)
        assert "a.shapes" not in store.cards(signed)
        assert "is left out" in caplog.text
        path = zoo.download("a", mirror=[str(signed), str(tmp_path / "good")])
    assert path.read_bytes() == b"a.shapes" * 999


@pytest.mark.parametrize("digests", [None, [], {}, {"a.shapes.json": None}, {"b.shapes.json": "0" * 64}, "x"])
def test_a_card_that_a_signed_index_does_not_vouch_for_is_not_taken(
    signed: Path, key: Path, digests: object, tmp_path: Path
) -> None:
    index = {"schema": 1, "cards": ["a.shapes.json", "b.shapes.json"], "sha256": digests}
    content = json.dumps(index if digests is not None else {"schema": 1, "cards": index["cards"]}).encode()
    (signed / "index.json").write_bytes(content)
    spoiled(signed, store.Signer(key).sign("index.json", content))
    with store.verifying_with(str(tmp_path / "zoo.pub")), pytest.raises(ZooError, match="not the card whose SHA-256"):
        zoo.download("a", mirror=signed)


def test_an_older_index_of_the_key_is_still_good(signed: Path, key: Path, home: Path, tmp_path: Path) -> None:
    """docs/security.md says that this is not promised."""
    shutil.copytree(signed, tmp_path / "older")
    make(home / "own", "c.shapes")
    store.publish(signed, sign=store.Signer(key))
    shutil.rmtree(home)
    with store.verifying_with(str(tmp_path / "zoo.pub")):
        assert "c.shapes" in store.cards(signed)
        assert list(store.cards(tmp_path / "older")) == NAMES


def test_a_signed_mirror_over_http(http: Mirror, mirror: Path, tmp_path: Path, key: Path, home: Path) -> None:
    shutil.copytree(home / "own", mirror, dirs_exist_ok=True)
    (mirror / "index.json").unlink()
    store.publish(mirror, sign=store.Signer(key))
    shutil.rmtree(home)
    with store.verifying_with(str(tmp_path / "zoo.pub")):
        assert zoo.download("a", mirror=http.url).read_bytes() == b"a.shapes" * 999
    assert http.asked[:3] == ["/index.json", "/index.json.minisig", "/a.shapes.json"]


def test_a_mirror_that_is_signed_stays_signed(tmp_path: Path, key: Path, home: Path) -> None:
    folder, signer = tmp_path / "mirror", store.Signer(key)
    store.publish(folder, ["a"], sign=signer)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    store.publish(folder, ["a"], sign=signer)
    with pytest.raises(ZooError, match=r"is signed: sign it again with `sign=KEY`, or remove .*index\.json\.minisig"):
        store.publish(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    refused = run("publish", folder)
    assert "sign it again with --sign KEY" in refused.stderr
    (folder / "index.json").write_bytes(mirrors.index_bytes([]))  # as after a kill between index and signature
    store.publish(folder, sign=signer)
    shutil.rmtree(home)
    with store.verifying_with(signer.public_key):
        assert list(store.cards(folder)) == NAMES


def test_a_bundle_is_signed_and_verified_too(tmp_path: Path, key: Path, home: Path) -> None:
    for name, words in (("signed", ["--sign", key]), ("plain", [])):
        assert run("bundle", "a", "-o", tmp_path / f"{name}.zip", *words).exit_code == 0
    with zipfile.ZipFile(tmp_path / "plain.zip") as archive:
        assert "index.json.minisig" not in archive.namelist()
    shutil.rmtree(home)
    refused = run("bundle", "--install", tmp_path / "plain.zip", "--verify-with", tmp_path / "zoo.pub")
    assert refused.exit_code == 2
    assert "plain.zip cannot be installed: it is not signed" in refused.stderr
    assert not list(home.rglob("*.safetensors"))
    done = run("bundle", "--install", tmp_path / "signed.zip", "--verify-with", tmp_path / "zoo.pub")
    assert done.exit_code == 0, done.output
    assert zoo.info("a").name == "a.shapes"


@pytest.mark.parametrize("text", ["", "nowhere.pub", "RWQ", "RW" + "A" * 54, "/dev/zero", "."])
def test_what_is_no_public_key_is_one_sentence(text: str, signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run("download", "a", "--mirror", signed, "--verify-with", text)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("Error: ")
    if text:
        monkeypatch.setenv("ZOO_VERIFY_WITH", text)
        with pytest.raises(ZooError, match="is no public key of minisign"):
            zoo.download("a", mirror=signed)


def test_what_is_no_secret_key_is_one_sentence(tmp_path: Path, key: Path) -> None:
    (tmp_path / "bad.key").write_text("no key")
    for file in ("bad.key", "zoo.pub", "none.key"):
        refused = run("publish", tmp_path / "mirror", "--sign", tmp_path / file)
        assert refused.exit_code == 2
        assert "cannot sign" in refused.stderr or "zoo publish --new-key FILE makes one" in refused.stderr
    assert not (tmp_path / "mirror").exists()
    assert "another name for the secret one" in run("publish", "--new-key", tmp_path / "zoo.pub").stderr
    again = run("publish", "--new-key", key)
    assert (again.exit_code, "exists already" in again.stderr) == (2, True)
    assert run("publish").exit_code == run("publish", tmp_path, "--new-key", tmp_path / "x").exit_code == 2


def test_without_the_package_it_says_what_to_type(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minisign", None)
    refused = run("download", "a", "--mirror", signed, "--verify-with", "RWQ")
    assert "pip install 'pruned-zoo[sign]'" in refused.stderr
    monkeypatch.setenv("ZOO_VERIFY_WITH", "RWQ")
    with pytest.raises(ZooError, match="pruned-zoo"):
        zoo.download("a", mirror=signed)
    monkeypatch.delenv("ZOO_VERIFY_WITH")
    assert zoo.download("a", mirror=signed).exists()  # a signature that nobody asks for is no hindrance


@pytest.mark.parametrize("cases", CASES)
def test_no_damaged_signature_or_index_harms_or_is_taken(signed: Path, tmp_path: Path, cases: int) -> None:
    index, signature = (signed / "index.json").read_bytes(), (signed / "index.json.minisig").read_bytes()

    def vouched_for(text: bytes) -> list[bytes]:
        """The lines but the first, a comment; of base64 the bytes, because its last digit has bits to spare."""
        _, ours, comment, of_both = text.splitlines()
        return [b64decode(ours), comment, b64decode(of_both)]

    def verify(index_now: bytes, signature_now: bytes) -> None:
        spoiled(signed, signature_now)
        signatures.check_signature(str(signed), "index.json", index_now, str(tmp_path / "zoo.pub"))
        assert (index_now, vouched_for(signature_now)) == (index, vouched_for(signature))

    fuzz(lambda data: verify(index, data), [signature], cases)
    fuzz(lambda data: verify(data, signature), [index], cases)
