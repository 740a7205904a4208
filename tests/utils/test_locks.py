"""The lock that lets one process at a time work on a file."""

import subprocess
import sys
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
