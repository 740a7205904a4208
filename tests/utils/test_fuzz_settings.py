"""Settings as text and lists of plugins, damaged: taken as they are, or refused with one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fuzzing import CASES, fuzz

from zoo.prune import Options
from zoo.utils import parse_setting, plugins, setting_types, settings_of, with_settings

WORDS = [b"=", b".", b"search.", b"repair.", b"true", b"nan", b"1e999", b"\x00", b"\xff", b"1_0", b" "]


@pytest.mark.parametrize("cases", CASES)
def test_no_setting_harms(cases: int) -> None:
    types = setting_types(Options)
    samples = [f"{name}={value}".encode() for name, value in settings_of(Options()).items() if value is not None]

    def read(data: bytes) -> None:
        name, value = parse_setting(data.decode(errors="replace"), types)
        assert isinstance(value, types[name])
        with_settings(Options(), {name: value})

    fuzz(read, samples, cases, words=WORDS)


@pytest.mark.parametrize("cases", CASES)
def test_no_entry_point_harms(cases: int, ram: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file in which installed packages name their plugins; what it names is not there."""
    folder = ram / "other-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: other\nVersion: 1.0\n")
    monkeypatch.setattr(sys, "path", [str(ram)])
    monkeypatch.setattr(plugins, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    monkeypatch.setattr("importlib.import_module", plugins.import_module)

    def read(data: bytes) -> None:
        (folder / "entry_points.txt").write_bytes(data)
        plugins.load_plugins.cache_clear()
        monkeypatch.setenv(plugins.VARIABLE, data[:40].decode(errors="replace").replace("\x00", ""))
        plugins.load_plugins()

    try:
        words = [b"[pruned_zoo.plugins]\n", b"a = b:c\n", b"a=b", b"[x]", b"\n", b"=", b"x.py", b","]
        fuzz(read, [b""], cases, words=words)
    finally:
        plugins.load_plugins.cache_clear()
