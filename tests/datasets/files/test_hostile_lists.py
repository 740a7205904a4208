"""Lists of labels of other people, and the MATLAB file beside them: one error each, in little time and memory."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from fuzzing import fuzz, through_file

from zoo.datasets.files import flat_folder, flat_images, read_lines
from zoo.datasets.files.flat_folder import GROUND_TRUTH, ILSVRC_VAL, META
from zoo.errors import ZooError

scipy_io = pytest.importorskip("scipy.io")


def devkit(root: Path) -> Path:
    """A folder with the validation image 1, whose class is number 2 of the MATLAB file, which is to be written."""
    (root / f"{ILSVRC_VAL}00000001.JPEG").touch()
    (root / GROUND_TRUTH).write_text("2\n")
    return root / META


def matlab() -> bytes:
    synsets = np.zeros((3, 1), dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("words", object)])
    for row in range(3):
        synsets[row, 0] = (row + 1, f"n0000000{row + 1}", "a word")
    stream = io.BytesIO()
    scipy_io.savemat(stream, {"synsets": synsets})
    return stream.getvalue()


@pytest.mark.slow
def test_no_matlab_file_harms(ram: Path) -> None:
    """Of 400 damaged files scipy 1.17 ends 7 in a crash of its process. Each is read in one: so they are few."""
    fuzz(through_file(devkit(ram), lambda _: flat_images(ram)), [matlab()], 60)


def test_a_reader_that_crashes_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = devkit(tmp_path)
    path.write_bytes(matlab())
    assert flat_images(tmp_path) == ([(tmp_path / f"{ILSVRC_VAL}00000001.JPEG", "n00000002")], ["n00000002"])
    monkeypatch.setattr(flat_folder, "_READ_META", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(ZooError, match=r"meta\.mat is no readable meta\.mat of the devkit: its reader crashes on it"):
        flat_images(tmp_path)


def test_a_list_that_is_a_pipe_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ZooError, match=r"cannot read .*a\.txt: .*codec"):
        read_lines(tmp_path / "a.txt")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "b.txt")
        with pytest.raises(ZooError, match=r"cannot read .*b\.txt: it is no ordinary file"):
            read_lines(tmp_path / "b.txt")
