"""Damaged files of weights of each kind are read or refused, and take neither time nor memory."""

from __future__ import annotations

import io
import json
import pickletools
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import CASES, fuzz, through_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from zoo import checkpoint, models

pytestmark = pytest.mark.parametrize("cases", CASES)

WORDS = (
    b"torch._utils\n_rebuild_tensor_v2\n", b"ctorch.storage\nUntypedStorage\n", b"cbuiltins\nbytearray\n", b"\x8a\x08",
    b"ctorch\nFloatTensor\n", b"ctorch._utils\n_rebuild_qtensor\n", b"ctorch._utils\n_rebuild_sparse_tensor\n", b"\x85",
    b"R", b"\x81", b"b", b"s", b"u", b"(", b"t", b")", b"Q", b"]", b"}", b"h\x01", b"j\xff\xff\xff\xff", b"\x86",
    b"r\xff\xff\xff\xff", b"ccollections\nOrderedDict\n", b"cnumpy\nndarray\n", b"X\xff\xff\xff\xff", b"U\xff",
)  # fmt: skip


def network() -> nn.Module:
    torch.manual_seed(0)
    return models.build("mlp", num_classes=3, widths={"hidden1": 3, "hidden2": 2}, in_features=2)


def saved(content: object, *, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


STATE: dict[str, Tensor] = network().state_dict()
WRAPPED = {"model": OrderedDict(STATE), "epoch": 3, "shape": torch.Size((2, 3)), "all": {1, 2.5}}
EVERYTHING = {
    **WRAPPED, "net": nn.Parameter(torch.ones(1)), "type": torch.float16, "lr": 1 + 2j, "raw": bytearray(b"xyz"),
    "sparse": STATE["out.weight"].to_sparse(), "meta": torch.empty(3, device="meta"), "arguments": Namespace(a=1),
}  # fmt: skip
ARRAYS = {name: tensor.numpy() for name, tensor in STATE.items()} | {"acc": np.float64(0.5), "e": np.zeros((0, 3))}


def loaded(model: nn.Module) -> Any:
    """A reader of a file of weights that looks at all numbers, if they are those of the network."""

    def read(path: Path) -> None:
        state = checkpoint.read_state(path)
        if state.keys() == STATE.keys():
            checkpoint.load_weights(model, state, source=str(path))

    return read


def test_records_of_torch_save(ram: Path, cases: int) -> None:
    samples = [saved(content) for content in (STATE, WRAPPED)]
    fuzz(through_file(ram / "w.pth", loaded(network())), samples, cases, words=[b"PK\x03\x04", b"PK\x01\x02", *WORDS])


@pytest.mark.parametrize("content", [EVERYTHING, ARRAYS], ids=["tensors", "numpy"])
def test_pickles_of_torch_save(ram: Path, cases: int, content: object) -> None:
    """The pickle with the names and shapes alone is damaged: the file around it, of torch before 1.6, holds."""
    whole = saved(content, zipped=False)
    stream, ends = io.BytesIO(whole), []
    for _ in range(4):  # magic number, protocol, system, and this one
        list(pickletools.genops(stream))
        ends.append(stream.tell())
    before, names, after = whole[: ends[2]], whole[ends[2] : ends[3]], whole[ends[3] :]
    read = through_file(ram / "w.pth", loaded(network()))
    fuzz(lambda data: read(before + data + after), [names], cases, words=WORDS)


HEADER = {"arch": "mlp", "num_classes": 3, "options": {"in_features": 2}, "widths": {"hidden1": 3, "hidden2": 2}}


def test_checkpoints(ram: Path, cases: int) -> None:
    """What is damaged is the header; its length is set right, and the tensors follow."""
    whole = safetensors_bytes(STATE, {"zoo": json.dumps(HEADER)})
    end = 8 + int.from_bytes(whole[:8], "little")
    load = through_file(ram / "w.safetensors", checkpoint.load)
    read = through_file(ram / "w.bin", loaded(network()))

    def in_a_file(header: bytes) -> None:
        data = len(header).to_bytes(8, "little") + header + whole[end:]
        read(data)
        load(data)

    words = b'"F64" "BF16" "F8_E4M3" "F4" "I64" "BOOL" "C64" , [ ] { } 0'.split()
    fuzz(in_a_file, [whole[8:end]], cases, words=words)


def test_checkpoints_with_any_byte_damaged(ram: Path, cases: int) -> None:
    whole = safetensors_bytes(STATE, {"zoo": json.dumps(HEADER)})
    fuzz(through_file(ram / "w.safetensors", checkpoint.load), [whole], cases)


def test_indices_of_shards(ram: Path, cases: int) -> None:
    names = sorted(STATE)
    places = {name: f"w-0000{1 + (name > 'i')}-of-00002.safetensors" for name in names}
    for file in set(places.values()):
        part = {name: STATE[name] for name in names if places[name] == file}
        (ram / file).write_bytes(safetensors_bytes(part))
    (ram / "w.pth").write_bytes(saved(STATE))
    index = json.dumps({"metadata": {"total_size": 9}, "weight_map": places}).encode()
    other = json.dumps({"weight_map": dict.fromkeys(names, "w.pth")}).encode()
    read = through_file(ram / "w.safetensors.index.json", loaded(network()))
    fuzz(read, [index, other], cases, words=[b'"w.pth"', b'".."', b'"/dev/zero"', b"\\u0000", b"{", b"[", b"null"])
