"""Pickles that would run a program if `pickle.load` read them, by every operation that can: nothing of them runs."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from zoo import checkpoint
from zoo.errors import ZooError
from zoo.utils import weights_format

MAGIC = 0x1950A86A20F9469CFC6C  # of torch.save's format before zip files


def text(word: str) -> bytes:
    return b"X" + len(word).to_bytes(4, "little") + word.encode()


def payloads(target: str) -> dict[str, bytes]:
    """Pickles, each of which calls os.mkdir(target) by other operations."""
    path, name, state = text(target), b"posix\nmkdir\n", text("posix") + text("mkdir")
    inner = b"c" + name + path + b"\x85R."
    return {
        "GLOBAL and REDUCE": b"\x80\x02c" + name + path + b"\x85R.",
        "STACK_GLOBAL": b"\x80\x04" + state + b"\x93" + path + b"\x85R.",
        "INST, protocol 0": b"(V" + target.encode() + b"\ni" + name + b".",
        "OBJ": b"\x80\x01(c" + name + path + b"o.",
        "builtins.getattr": b"\x80\x02cbuiltins\ngetattr\ncposix\n__dict__\n" + text("get") + b"\x86R" + text("mkdir")
        + b"\x85R" + path + b"\x85R.",
        "builtins.eval": b"\x80\x02cbuiltins\neval\n" + text(f"__import__('os').mkdir({target!r})") + b"\x85R.",
        "builtins.map": b"\x80\x02cbuiltins\nlist\ncbuiltins\nmap\nc" + name + path + b"\x85\x86R\x85R.",
        "functools.partial": b"\x80\x02cfunctools\npartial\nc" + name + path + b"\x86R)R.",
        "pickle.loads": b"\x80\x02c_pickle\nloads\n\x8e" + len(inner).to_bytes(8, "little") + inner + b"\x85R.",
        "BUILD": b"\x80\x02cfunctools\npartial\ncbuiltins\nprint\n\x85R(c" + name + b"(" + path + b"t}Ntb)R.",
        "NEWOBJ": b"\x80\x02cfunctools\npartial\nc" + name + path + b"\x86\x81)R.",
        "NEWOBJ_EX": b"\x80\x04cfunctools\npartial\nc" + name + path + b"\x86}\x92)R.",
        "a class of torch": b"\x80\x02ctorch.utils.data\nget_worker_info\n)Rc" + name + path + b"\x85R\x86.",
        "before the weights": b"\x80\x02}" + text("a") + b"c" + name + path + b"\x85Rs.",
    }  # fmt: skip


NAMES = list(payloads("x"))


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (("data.pkl", data), ("byteorder", b"little"), ("version", b"3\n")):
            archive.writestr(f"archive/{name}", content)
    return file.getvalue()


def tarred(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("pickle", "storages", "tensors", "sys_info"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


FORMS = {
    "alone": lambda data: data,
    "in a zip file": zipped,
    "of old": lambda data: b"".join(pickle.dumps(part, 2) for part in (MAGIC, 1001, {"little_endian": True})) + data,
    "of old, as the system": lambda data: pickle.dumps(MAGIC, 2) + pickle.dumps(1001, 2) + data,
    "in a tar file": tarred,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("payload", NAMES)
def test_nothing_runs(payload: str, form: str, tmp_path: Path) -> None:
    target = tmp_path / "boom"
    data = payloads(str(target))[payload]
    for ending in (".pth", ".safetensors", ".bin"):
        path = tmp_path / f"w{ending}"
        path.write_bytes(FORMS[form](data))
        with pytest.raises(ZooError):
            checkpoint.read_state(path)
        with suppress(ZooError):
            weights_format(path)
        assert not target.exists()


@pytest.mark.parametrize("payload", NAMES)
def test_it_would_with_pickle(payload: str, tmp_path: Path) -> None:
    pickle.loads(payloads(str(tmp_path / "boom"))[payload])
    assert (tmp_path / "boom").exists()


@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_nothing_in_an_array_of_objects_runs(ending: str, tmp_path: Path) -> None:
    from zoo.datasets.folder.shape_files import read_cloud

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.mkdir, (tmp_path / "boom",)

    array = np.array([[Bomb()] * 3] * 4, dtype=object)
    path = tmp_path / f"a{ending}"
    (np.save if ending == ".npy" else np.savez)(path, array)
    with pytest.raises(ZooError):
        read_cloud(path, 16)
    assert not (tmp_path / "boom").exists()
