"""Files that are given for weights and are none, or half of them."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_weights import mlp, refused, run
from torch import nn


def zip_of(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "x")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is empty (0 bytes): its download or copy did not finish, fetch it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 7028812\n",
            "it is a Git-LFS pointer (132 bytes): `git lfs pull` in its repository brings the file",
        ),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "it is a web page (HTML)"),
        (b"\n  <html><body>Quota exceeded</body></html>", "it is a web page (HTML)"),
        (b"404: Not Found", "it is a text that begins with '404: Not Found'"),
        (b'{"error": "gone"}', "it is a JSON text"),
        (b"\x1f\x8b\x08\x00" + b"\0" * 40, "it is compressed (gzip)"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "it is an HDF5 file"),
        (b"\x04\x00\x00\x00\x01\x00\x00\x00\x03\x00\x00\x00V 1", "it is of Lua Torch"),
        (lambda path: zip_of(path, "README.md", "w.pth"), "it is a zip archive without a file of torch.save"),
        (lambda path: torch.jit.script(nn.Linear(2, 2)).save(str(path)), "it is a TorchScript program"),
        (lambda path: path.mkdir(), "is a folder: give the file of weights in it"),
    ],
)
def test_what_is_no_file_of_weights_is_named(content: bytes | Callable[[Path], Any], what: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    if callable(content):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is of yesterday
            content(path)
    else:
        path.write_bytes(content)
    result = run(path, "--arch", "mlp", "-o", tmp_path / "out.safetensors")
    assert (result.exit_code, result.stdout) == (2, "")
    assert what in result.stderr
    assert str(path) in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_it_is_named_without_torch(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"")
    code = (
        "import sys; from zoo.cli import main\n"
        "try: main(['convert', 'w.pth', '--arch', 'mlp', '-o', 'o.safetensors'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout == "False\n", result.stderr


def test_half_a_file_is_damaged(tmp_path: Path) -> None:
    for zipped in (True, False):
        torch.save(mlp(), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        data = (tmp_path / "w.pth").read_bytes()
        (tmp_path / "w.pth").write_bytes(data[: len(data) // 2])
        assert "fetch it again" in refused(tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": 1}, protocol=4))
    assert "a pickle that torch.save did not write" in refused(tmp_path / "w.pth")
