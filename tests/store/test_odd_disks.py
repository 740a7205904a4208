"""Disks that are full, read-only, or cannot do what is asked of them: one sentence, and what was there before stays."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from store_entries import make

import zoo
from zoo import store
from zoo.errors import ZooError
from zoo.store import bundles, publishing

FAULTS = {
    "full": ("fsync", errno.ENOSPC),
    "over quota": ("fsync", errno.EDQUOT),
    "broken": ("fsync", errno.EIO),
    "read-only": ("replace", errno.EROFS),
    "of another owner": ("replace", errno.EACCES),
    "in two parts": ("replace", errno.EXDEV),
    "of short names": ("replace", errno.ENAMETOOLONG),
}
DOINGS: dict[str, Callable[[Path, Path], object]] = {
    "download": lambda mirror, out: zoo.download("net.shapes", mirror=str(mirror)),
    "download --to": lambda mirror, out: zoo.download("own.shapes", to=out, overwrite=True),
    "bundle": lambda mirror, out: bundles.bundle(["own.shapes"], out / "a.zip", overwrite=True),
    "install": lambda mirror, out: bundles.install(mirror.parent / "given.zip"),
    "publish": lambda mirror, out: publishing.publish(out, ["own.shapes"], overwrite=True),
}


def files(*folders: Path) -> dict[Path, bytes]:
    """What has its name below the folders."""
    found = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: path.read_bytes() for path in found if not path.name.startswith(".")}


@pytest.fixture(autouse=True)
def home(empty_home: Path, mirror: Path, tmp_path: Path) -> Path:
    """An own entry, a bundle of another one, and a folder with an earlier version of what is to be written."""
    make(store.user_dir(), "own.shapes", b"new" * 5000)
    bundles.bundle(["net.modelnet10"], tmp_path / "given.zip", mirror=[str(mirror)])
    for path in store.cache_dir().glob("[!.]*"):
        path.unlink()
    make(tmp_path / "out", "own.shapes", b"old" * 5000)
    (tmp_path / "out" / "a.zip").write_bytes(b"before")
    return empty_home


@pytest.mark.parametrize("doing", DOINGS)
@pytest.mark.parametrize("fault", FAULTS)
def test_one_sentence_and_all_is_as_before(
    fault: str, doing: str, mirror: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    before = files(out, home)
    name, number = FAULTS[fault]

    def fails(*given: object, **more: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fails)
        with pytest.raises(ZooError, match=os.strerror(number)) as caught:
            DOINGS[doing](mirror, out)
    assert "\n" not in str(caught.value)
    assert files(out, home) == before
    DOINGS[doing](mirror, out)  # on a good disk it goes
    assert files(out, home) != before
