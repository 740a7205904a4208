"""Bundles that nobody would write: refused, or only their entries are taken, and nothing lands elsewhere."""

import json
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from store_entries import make

from zoo import store
from zoo.errors import ZooError
from zoo.store import bundles as bundle


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    return empty_home


def hostile(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def test_hostile_bundles_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    card = make(tmp_path / "made", "a.shapes", b"good" * 500)
    text, data = card.to_json().encode(), b"good" * 500
    index = json.dumps({"schema": 1, "cards": ["a.shapes.json"]}).encode()
    name = card.saved.name
    cases = {
        "is no bundle": {"readme": b"nothing"},
        "holds no a.shapes.json": {"index.json": index},
        f"holds no {name}": {"index.json": index, "a.shapes.json": text},
        "the card states 2000": {"index.json": index, "a.shapes.json": text, name: data + b"x"},
        "has the SHA-256": {"index.json": index, "a.shapes.json": text, name: data[::-1]},
        "not a plain file name": {"index.json": index, "a.shapes.json": text.replace(name.encode(), b"/e.safetensors")},
        "cannot be a card": {"index.json": index.replace(b"a.shapes", b"../../e")},
        "longer than": {"index.json": b"[" * ((1 << 24) + 1)},
    }  # fmt: skip
    for number, (reason, members) in enumerate(cases.items()):
        with pytest.raises(ZooError, match=reason):
            bundle.install(hostile(tmp_path / f"{number}.zip", members))
    assert not [path for path in store.cache_dir().glob("[!.]*") if path.is_file()]
    assert not list(tmp_path.rglob("e.*"))


ODD_MEMBERS = ["../../e", "/e", "C:\\e", "C:e", "..\\e", "//host/e", "e\0.json", "a.shapes.json/", ".", "CON", "\udcff"]


@pytest.mark.parametrize("odd", [*ODD_MEMBERS, "a link", "twice"])
def test_what_else_a_bundle_holds_goes_nowhere(tmp_path: Path, home: Path, odd: str) -> None:
    card = make(tmp_path / "made", "a.shapes", b"good" * 500)
    name, data = card.saved.name, b"good" * 500
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a name that is there twice
        archive.writestr("index.json", json.dumps({"schema": 1, "cards": ["a.shapes.json"]}))
        archive.writestr("a.shapes.json", card.to_json())
        member = zipfile.ZipInfo(name)
        if odd == "a link":
            member.create_system, member.external_attr = 3, 0o120777 << 16
        archive.writestr(member, b"/etc/passwd" if odd == "a link" else data)
        if odd in ODD_MEMBERS:
            member = zipfile.ZipInfo("x")
            member.filename = odd.encode(errors="replace").decode()
            archive.writestr(member, "evil")
        if odd == "twice":
            archive.writestr(name, data[::-1])
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(home)}
    with suppress(ZooError):
        bundle.install(tmp_path / "a.zip")
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(home)} == before
    left = [path for path in home.rglob("[!.]*") if path.is_file() and path.parent == store.cache_dir()]
    assert {path.name for path in left} <= {"a.shapes.json", name}
    assert all(not path.is_symlink() and path.read_bytes() in (data, card.to_json().encode()) for path in left)
