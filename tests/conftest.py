"""What several test files need of the store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from http_mirror import Mirror, serving
from store_entries import make, write_index

from zoo import store


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty zoo with nothing shipped, nothing owned and no mirror."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    monkeypatch.delenv("ZOO_OFFLINE", raising=False)
    monkeypatch.setattr(store, "shipped", lambda: tmp_path / "shipped")
    return tmp_path / "home"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A mirror folder with two data sets of one network and a pruned one."""
    folder = tmp_path / "mirror"
    for name in ("net.shapes", "net.modelnet10", "net-pruned-0.5x.shapes"):
        make(folder, name, name.encode() * 20_000, dataset=name.rpartition(".")[2])
    write_index(folder)
    return folder


@pytest.fixture
def http(mirror: Path) -> Iterator[Mirror]:
    """The same behind http."""
    with serving(mirror) as served:
        yield served
