"""Damaged bundles give their entries or a sentence, and take neither time nor memory."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from fuzzing import CASES, fuzz, through_file
from store_entries import make

from zoo import store
from zoo.store import bundles, mirrors

WORDS = [b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"a.shapes", b"..", b"\xff\xfe", b"\0"]


@pytest.mark.parametrize("cases", CASES)
def test_no_bundle_harms(empty_home: Path, ram: Path, cases: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.shapes", "b-0.5x.shapes"):
        make(store.user_dir(), name, name.encode() * 9)
    bundles.bundle(["a", "b-0.5x"], ram / "whole.zip")
    whole = (ram / "whole.zip").read_bytes()
    monkeypatch.setenv("ZOO_HOME", str(ram / "home"))
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        files = [name for name in archive.namelist() if name.endswith(".safetensors")]

    def read(path: Path) -> None:
        """What the installation of a bundle does, without the copies on the disk, which only cost time."""
        mirror = mirrors.open_mirror(str(path))
        for name in mirror.cards:
            mirrors.fetch_card(mirror, name)
        for file in files:
            mirrors.download_bytes(str(path), file)

    bundles.install(ram / "whole.zip")
    fuzz(through_file(ram / "w.zip", read), [whole], cases, words=WORDS)
