"""Files that are complete or absent, and what a killed writer leaves."""

import os
import time
from pathlib import Path

import pytest

from zoo.errors import ZooError
from zoo.utils import check_folder, expand_path, new_file, read_file, read_json, remove_stale_files, sha256_of


def test_a_file_appears_when_it_is_complete_and_a_failure_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.bin"
    with new_file(path) as out:
        out.write(b"first")
        assert not path.exists()
    assert path.read_bytes() == b"first"

    def fail(error: type[BaseException]) -> None:
        with new_file(path) as out:
            out.write(b"second")
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            fail(error)
    assert [file.read_bytes() for file in path.parent.iterdir()] == [b"first"]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "x.bin"
    with pytest.raises(ZooError, match=r"cannot write .*x\.bin: .*; nothing was written"), new_file(path):
        pass
    with pytest.raises(ZooError, match="cannot write to the folder"):
        check_folder(tmp_path / "file")
    check_folder(tmp_path / "folder")
    assert not list((tmp_path / "folder").iterdir())


def test_stale_unfinished_files_are_removed_and_those_of_living_writers_are_not(tmp_path: Path) -> None:
    stale, fresh = tmp_path / ".x.bin.0123456789ab.part", tmp_path / ".x.bin.456789abcdef.part"
    other = tmp_path / ".y.bin.0123456789ab.part"
    for part in (stale, fresh, other):
        part.touch()
    for part in (stale, other):
        os.utime(part, (time.time() - 3600,) * 2)
    with new_file(tmp_path / "x.bin") as out:
        out.write(b"complete")
    assert (tmp_path / "x.bin").read_bytes() == b"complete"
    assert (stale.exists(), fresh.exists(), other.exists()) == (False, True, True)
    remove_stale_files(tmp_path)
    assert (fresh.exists(), other.exists()) == (True, False)


def test_a_hash_is_that_of_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_path_is_expanded_and_an_empty_or_unknown_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_path("~/zoo") == Path("/home/me/zoo")
    for path, reason in (("", "is empty: write ."), ("~nobody-of-that-name/x", "write ./~")):
        with pytest.raises(ZooError, match=reason):
            expand_path(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX's")
def test_a_pipe_or_a_device_is_neither_waited_for_nor_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(ZooError, match="it is no ordinary file"):
            read_file(tmp_path / name)
        with pytest.raises(ValueError, match="it is no ordinary file"):
            read_json(tmp_path / name)


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"[1]")
    assert read_file(tmp_path / "x", limit=3) == b"[1]"
    assert read_json(tmp_path / "x") == [1]
    with pytest.raises(ZooError, match="it is longer than 2 bytes"):
        read_file(tmp_path / "x", limit=2)
    (tmp_path / "x").write_bytes(b"[" * 1_000_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "x")
