"""The lock that lets one process at a time work on a file."""

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zoo.errors import ZooError
from zoo.utils import locked

HOLD = "import sys; from pathlib import Path; from zoo.utils import locked\n" \
       "with locked(Path(sys.argv[1]), 'x'): print('held', flush=True); sys.stdin.read()"  # fmt: skip


def test_another_process_waits_until_the_lock_is_free(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(TimeoutError, match="another process works on x"), locked(tmp_path, "x", wait=False):
            pass
        with locked(tmp_path, "y", wait=False):  # another file's lock
            pass
        process.kill()
        process.wait()
        with locked(tmp_path, "x"):  # the system has released the lock of the killed process
            pass


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ZooError, match=r"cannot write .*file.x: "), locked(tmp_path / "file", "x"):
        pass


def test_nothing_is_left_of_a_lock_and_the_lock_of_a_killed_process_is_taken(tmp_path: Path) -> None:
    left = tmp_path / ".locks" / "x.lock"
    left.parent.mkdir()
    left.touch()
    with locked(tmp_path, "x"), locked(tmp_path, "y"):
        assert left.exists()
    assert list(tmp_path.iterdir()) == []


def test_five_threads_hold_it_one_at_a_time_although_its_file_comes_and_goes(tmp_path: Path) -> None:
    """A file that was removed and made again is another lock: who waited for the first must not hold it."""
    held, most = [], 0

    def work(number: int) -> None:
        nonlocal most
        for _ in range(100):
            with locked(tmp_path, "x"):
                held.append(number)
                most = max(most, len(held))
                time.sleep(0)
                held.remove(number)

    with ThreadPoolExecutor(5) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.utils.locks._POLL_SECONDS", 0)
        assert list(pool.map(work, range(5))) == [None] * 5
    assert most == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the flag is POSIX's")
def test_a_link_planted_at_the_name_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "folder" / ".locks").mkdir(parents=True)
    (tmp_path / "folder" / ".locks" / "x.lock").symlink_to(tmp_path / "planted")
    with pytest.raises(ZooError, match=r"cannot write .*folder.x: "), locked(tmp_path / "folder", "x"):
        pass
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def lock_descriptor(handle: int, *, blocking: bool) -> bool:
        raise OSError(number, "it cannot")

    monkeypatch.setattr("filelock.lock_descriptor", lock_descriptor)
    sentence = f"the file system of {tmp_path} knows no locks, .*: use a folder on another one"
    with pytest.raises(ZooError, match=sentence), locked(tmp_path, "x"):
        pass


def test_a_long_wait_says_for_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("zoo.utils.locks.SILENT_SECONDS", 0.05)
    with ThreadPoolExecutor(1) as pool:

        def wait() -> None:
            with locked(tmp_path, "x"):
                pass

        with locked(tmp_path, "x"):
            waiting = pool.submit(wait)
            while not caplog.records:
                time.sleep(0.01)
        waiting.result()
    assert "waiting for another process that works on x" in caplog.text
    assert len(caplog.records) == 1
