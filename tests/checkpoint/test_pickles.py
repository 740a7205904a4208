"""Weights that torch.save wrote: of any ending, with numbers of NumPy, with objects of other classes."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_weights import Reduced, equal, mlp, refused
from safetensors.torch import save_file

from zoo import checkpoint


@pytest.mark.parametrize("name", ["w.t7", "best.pth.tar", "w.ckpt", "w.bin", "w.pt", "w.pth", "w.safetensors", "w"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_the_content_decides_and_not_the_ending(name: str, kind: str, tmp_path: Path) -> None:
    state = mlp()
    if kind == "safetensors":
        save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name, _use_new_zipfile_serialization=kind == "zip")
    assert equal(checkpoint.read_state(tmp_path / name), state)


NUMBERS = {
    "instance_acc": np.float64(0.9),
    "class_acc": np.float32(0.87),
    "epoch": np.int64(3),
    "half": np.float16(1.5),
    "done": np.bool_(True),
    "history": np.arange(6.0).reshape(2, 3),
    "empty": np.zeros((0, 3), np.int32),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("core", ["core", "_core"])
def test_numbers_of_numpy_beside_the_weights_are_read(zipped: bool, core: str, tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    torch.save({**NUMBERS, "model_state_dict": mlp()}, path, _use_new_zipfile_serialization=zipped)
    if not zipped:  # as the other version of NumPy names its module: the text has to be as long
        text = path.read_bytes()
        new, old = b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"
        path.write_bytes(text.replace(*((new, old) if core == "core" else (old, new))))
    assert equal(checkpoint.read_state(path), mlp())


def test_numbers_and_arrays_of_numpy_have_their_values(tmp_path: Path) -> None:
    from zoo.checkpoint.numpy_pickles import Array
    from zoo.checkpoint.pickled import read_pickled

    columns = np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3))
    torch.save({**NUMBERS, "columns": columns}, tmp_path / "w.pth")
    read = read_pickled(tmp_path / "w.pth")
    for name, value in {**NUMBERS, "columns": columns}.items():
        if isinstance(value, np.ndarray):
            assert isinstance(read[name], Array)
            np.testing.assert_array_equal(read[name].value.numpy(), value)
            assert read[name].value.numpy().dtype == value.dtype
        else:
            assert read[name] == value.item()
    state = {name: tensor.numpy() for name, tensor in mlp().items()}
    torch.save(state, tmp_path / "arrays.pth")  # arrays are weights as well
    assert equal(checkpoint.read_state(tmp_path / "arrays.pth"), mlp())


SCALAR = np.float64(1).__reduce__()[0]

RECONSTRUCT = np.zeros(1).__reduce__()[0]


@pytest.mark.parametrize(
    "value",
    [
        Reduced(SCALAR, (np.dtype("O"), b"\0" * 8)),
        Reduced(SCALAR, (np.dtype([("a", "f8")]), b"\0" * 8)),
        Reduced(SCALAR, (np.dtype("f8"), b"\0")),
        Reduced(SCALAR, (np.dtype(">f8"), b"\0" * 8)),
        Reduced(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (10**9, 10**9), np.dtype("f4"), False, b"\0" * 4)),
        Reduced(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (1,), np.dtype("O"), False, [print])),
        Reduced(RECONSTRUCT, (Namespace, (0,), b"b")),
    ],
)
def test_a_hostile_number_of_numpy_is_refused(value: Any, tmp_path: Path) -> None:
    torch.save({"acc": value, "model": mlp()}, tmp_path / "w.pth")
    assert "cannot be read as weights" in refused(tmp_path / "w.pth")


class Settings:
    """A class of somebody's training script."""


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("content", "where", "advice"),
    [
        ({"model": 1, "args": Settings()}, "under the key `args` ", "if k != 'args'}"),
        ({"model": 1, "hyper": {"list": [1, (Settings(),)]}}, "under the key `hyper.list` ", "if k != 'hyper'}"),
        (OrderedDict(model=1, args=Settings), "under the key `args` ", "if k != 'args'}"),
        ({"model": Settings()}, "under the key `model` ", "['model'].state_dict()"),
        (Settings(), "it holds a whole model of the class", ".state_dict()"),
    ],
)
def test_another_class_is_named_with_its_key(
    content: Any, where: str, advice: str, zipped: bool, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    sentence = refused(tmp_path / "w.pth")
    assert f"{Settings.__module__}.Settings" in sentence
    assert where in sentence
    assert advice in sentence


def test_the_settings_of_argparse_are_no_obstacle_and_what_the_sentence_says_to_type_works(tmp_path: Path) -> None:
    torch.save({"model": mlp(), "args": Namespace(lr=0.1)}, tmp_path / "w.pth")
    assert equal(checkpoint.read_state(tmp_path / "w.pth"), mlp())
    (tmp_path / "script.py").write_text("class Config:\n    pass\n")
    make = (
        "import script, torch; s = torch.load('w.pth', weights_only=False); s['config'] = script.Config(); "
        "torch.save(s, 'c.pth')"
    )
    subprocess.run([sys.executable, "-c", make], cwd=tmp_path, check=True)
    sentence = refused(tmp_path / "c.pth")
    assert "the class script.Config under the key `config` stands in the way" in sentence
    subprocess.run(sentence.partition("save the weights alone there: ")[2].replace("python", sys.executable, 1),
                   shell=True, cwd=tmp_path, check=True)  # fmt: skip
    assert equal(checkpoint.read_state(tmp_path / "weights.pth"), mlp())


def test_looking_for_a_key_runs_nothing_and_takes_no_memory(tmp_path: Path) -> None:
    target = tmp_path / "boom"
    torch.save({"model": 1, "log": Reduced(Path.touch, (target,))}, tmp_path / "w.pth")
    sentence = refused(tmp_path / "w.pth")
    assert "under the key `log`" in sentence
    assert not target.exists()
    # A memo index of 2^32 - 2, and a byte array of 2^40 bytes, before the class.
    for code in (b"r\xfe\xff\xff\xff", b"\x96" + (1 << 40).to_bytes(8, "little")):
        body = b"\x80\x02}" + code + b"X\x04\x00\x00\x00argscscript\nConfig\n)\x81s."
        with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
            for name, data in (("data.pkl", body), ("version", b"3\n"), ("byteorder", b"little")):
                archive.writestr(f"m/{name}", data)
        assert "cannot be read as weights" in refused(tmp_path / "m.pth")
