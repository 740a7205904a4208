"""What several test files need: stores, mirrors, a zoo with a trained entry."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from http_mirror import Mirror, serving
from store_entries import make, write_index

from zoo.store import folders

# pytest-xdist starts a worker for each core: one thread for each. Processes that the tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty zoo with nothing shipped, nothing owned and no mirror."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZOO_MIRROR", raising=False)
    monkeypatch.delenv("ZOO_OFFLINE", raising=False)
    monkeypatch.setattr(folders, "PACKAGE_DIR", tmp_path / "shipped")
    return tmp_path / "home"


@pytest.fixture
def ram(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where the system has such, for files that are written many times."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


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


@pytest.fixture(scope="session")
def trained_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo with one small trained entry."""
    from small_zoo import small_zoo  # needs torch, which tests of the store do without

    folder = tmp_path_factory.mktemp("zoo")
    small_zoo(folder)
    return folder


@pytest.fixture
def home(trained_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to work in."""
    from small_zoo import small_home

    small_home(trained_zoo, tmp_path / "home", monkeypatch)
    return tmp_path / "home"
