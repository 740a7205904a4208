"""Files that claim to be larger than they are, each given to what reads it, in a process that may not grow far.

    python size_attacks.py FOLDER

prints for each attack the bytes of its file, by how many bytes the process grew, the processor time in seconds, and the
sentence that the file was refused with.
"""

from __future__ import annotations

import codecs
import json
import os
import resource
import shutil
import struct
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzzing import measured_peak
from safetensors.torch import save_file
from store_entries import make

from zoo import checkpoint, models, store
from zoo.convert import convert
from zoo.errors import ZooError
from zoo.store import bundles

HEADER = {"arch": "mlp", "num_classes": 3, "options": {"in_features": 5}, "widths": {"hidden1": 7, "hidden2": 4}}
MANY = 10**10
Attack = Callable[[Path], Callable[[], object]]  # writes a file into a folder, and returns what reads it
ATTACKS: dict[str, Attack] = {}


def attack(make: Attack) -> Attack:
    ATTACKS[make.__name__] = make
    return make


def mlp() -> dict[str, torch.Tensor]:
    return models.build("mlp", num_classes=3, widths=HEADER["widths"], in_features=5).state_dict()


class Call:
    """Pickles as the call of a function, and a state."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def converting(path: Path) -> Callable[[], object]:
    return lambda: convert(path, arch="mlp", out=path.with_name("out.safetensors"), overwrite=True)


def saved(folder: Path, content: object, *, zipped: bool = True) -> Callable[[], object]:
    torch.save(content, folder / "w.pth", _use_new_zipfile_serialization=zipped)
    return converting(folder / "w.pth")


def zipped(folder: Path, pickle: bytes, **records: bytes) -> Callable[[], object]:
    """A file of torch.save with that pickle."""
    with zipfile.ZipFile(folder / "w.pth", "w") as archive:
        members = {"data.pkl": pickle, "version": b"3\n", "byteorder": b"little"}
        members |= {f"data/{key}": data for key, data in records.items()}
        for name, data in members.items():
            archive.writestr(f"w/{name}", data)
    return converting(folder / "w.pth")


def bundle(folder: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Callable[[], object]:
    with zipfile.ZipFile(folder / "w.zip", "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return lambda: bundles.install(folder / "w.zip")


# -- bundles ---------------------------------------------------------------------------------------------------


@attack
def bundle_deflated(folder: Path) -> Callable[[], object]:
    return bundle(folder, {"index.json": b" " * (8 << 20)}, zipfile.ZIP_DEFLATED)


@attack
def bundle_bzip2(folder: Path) -> Callable[[], object]:
    return bundle(folder, {"index.json": b" " * (32 << 20)}, zipfile.ZIP_BZIP2)


@attack
def bundle_lzma(folder: Path) -> Callable[[], object]:
    return bundle(folder, {"index.json": b" " * (17 << 20)}, zipfile.ZIP_LZMA)


def changed_bundle(folder: Path, *changes: tuple[bytes, bytes]) -> Callable[[], object]:
    call = bundle(folder, {"index.json": b"{}", "n\xe4me0000".encode("latin-1").decode("latin-1"): b"x"})
    data = (folder / "w.zip").read_bytes()
    for before, after in changes:
        assert before in data
        data = data.replace(before, after)
    (folder / "w.zip").write_bytes(data)
    return call


@attack
def bundle_name_is_not_utf8(folder: Path) -> Callable[[], object]:
    return changed_bundle(folder, ("ä".encode(), b"\xff\xff"))


@attack
def bundle_name_begins_with_nul(folder: Path) -> Callable[[], object]:
    return changed_bundle(folder, ("näme".encode(), b"\0\0ame"))


@attack
def bundle_members_share_their_bytes(folder: Path) -> Callable[[], object]:
    """A hundred entries of the directory lead to one megabyte."""
    call = bundle(folder, {"index.json": b"{}", "member-00": b"x" * (1 << 20)})
    data = (folder / "w.zip").read_bytes()
    end = data[-22:]
    start = int.from_bytes(end[16:20], "little")
    entry = data[start:-22][data[start:-22].rindex(b"PK\x01\x02") :]
    directory = data[start:-22] + b"".join(entry.replace(b"member-00", b"member-%02d" % i) for i in range(1, 100))
    end = end[:8] + struct.pack("<HHII", 101, 101, len(directory), start) + b"\0\0"
    (folder / "w.zip").write_bytes(data[:start] + directory + end)
    return call


@attack
def bundle_with_a_large_directory(folder: Path) -> Callable[[], object]:
    return bundle(folder, {"index.json": b"{}"} | {f"{number:060000}": b"" for number in range(100)})


# -- files of torch.save ---------------------------------------------------------------------------------------


@attack
def deflated_record(folder: Path) -> Callable[[], object]:
    torch.save(mlp() | {"a": torch.zeros(8 << 20)}, folder / "whole.pth")
    with zipfile.ZipFile(folder / "whole.pth") as whole, zipfile.ZipFile(folder / "w.pth", "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name), zipfile.ZIP_DEFLATED)
    (folder / "whole.pth").unlink()
    return converting(folder / "w.pth")


@attack
def expanded_tensor(folder: Path) -> Callable[[], object]:
    return saved(folder, mlp() | {"hidden1.weight": torch.zeros(1).expand(7, MANY)})


@attack
def expanded_tensor_beyond_all_numbers(folder: Path) -> Callable[[], object]:
    return saved(folder, mlp() | {"hidden1.weight": torch.zeros(1).expand(1, 2**61)})


@attack
def expanded_sparse_tensor(folder: Path) -> Callable[[], object]:
    indices, values = torch.zeros(1, 1, dtype=torch.long), torch.zeros(1)
    data = (indices.expand(1, MANY), values.expand(MANY), torch.Size((1,)), True)
    return saved(folder, mlp() | {"a": Call(torch._utils._rebuild_sparse_tensor, (torch.sparse_coo, data))})


@attack
def storage_that_is_not_there(folder: Path) -> Callable[[], object]:
    call = saved(folder, {"weight": torch.zeros(9)})
    with zipfile.ZipFile(folder / "w.pth") as archive:
        pickle = archive.read("w/data.pkl")
    assert b"K\x09tq" in pickle
    zipped(folder, pickle.replace(b"K\x09tq", b"J\xff\xff\xff\x7ftq"), **{"0": b"\0" * 36})
    return call


def changed_before_1_6(folder: Path, old: bytes, new: bytes) -> Callable[[], object]:
    """A file of torch before 1.6 with a tensor of 9 numbers, and these bytes of it changed."""
    call = saved(folder, {"weight": torch.zeros(9)}, zipped=False)
    data = (folder / "w.pth").read_bytes()
    assert old in data
    (folder / "w.pth").write_bytes(data.replace(old, new))
    return call


@attack
def storage_that_is_not_there_before_1_6(folder: Path) -> Callable[[], object]:
    return changed_before_1_6(folder, b"K\x09N", b"J\xff\xff\xff\x7fN")


@attack
def tensor_beyond_its_storage(folder: Path) -> Callable[[], object]:
    """Before torch 1.6 storages can grow."""
    return changed_before_1_6(folder, b"K\x00K\x09\x85", b"K\x00J\xff\xff\xff\x7f\x85")


@attack
def memory_for_a_number(folder: Path) -> Callable[[], object]:
    return saved(folder, {"model": mlp(), "a": Call(bytearray, (MANY,))})


@attack
def memory_for_a_tensor(folder: Path) -> Callable[[], object]:
    return saved(folder, {"model": mlp(), "a": Call(torch.FloatTensor, (MANY,))})


@attack
def memory_for_a_storage(folder: Path) -> Callable[[], object]:
    return saved(folder, {"model": mlp(), "a": Call(torch.UntypedStorage, (MANY,))})


@attack
def memory_for_a_function_of_another(folder: Path) -> Callable[[], object]:
    made = Call(torch._tensor._rebuild_from_type_v2, (torch.FloatTensor, torch.Tensor, (MANY,), {}))
    return saved(folder, {"model": mlp(), "a": made})


@attack
def quantized_tensor(folder: Path) -> Callable[[], object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are of yesterday
        return saved(folder, mlp() | {"a": torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8)})


@attack
def nested_tensor(folder: Path) -> Callable[[], object]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are of tomorrow
        return saved(folder, mlp() | {"a": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])})


@attack
def tensor_of_a_device_that_repeats(folder: Path) -> Callable[[], object]:
    function = torch._utils._rebuild_device_tensor_from_cpu_tensor
    tensor = torch.zeros(1).expand(MANY)
    return saved(folder, mlp() | {"a": Call(function, (tensor, torch.float64, "cpu", False))})


@attack
def the_same_bytes_copied(folder: Path) -> Callable[[], object]:
    text = "x" * (1 << 20)
    return saved(folder, {"model": mlp(), "a": [Call(bytearray, (text, "latin-1")) for _ in range(4000)]})


@attack
def the_same_array_copied(folder: Path) -> Callable[[], object]:
    state = (1, (1 << 20,), np.dtype("u1"), False, b"\0" * (1 << 20))
    make = np.zeros(1).__reduce__()[0]
    return saved(folder, {"model": mlp(), "a": [Call(make, (np.ndarray, (0,), b"b"), state) for _ in range(4000)]})


@attack
def text_that_doubles(folder: Path) -> Callable[[], object]:
    value: Any = "x" * 100
    for _ in range(28):
        value = Call(codecs.encode, (value, "hex_codec"))
    return saved(folder, {"model": mlp(), "a": value})


@attack
def set_of_a_tensor_that_repeats(folder: Path) -> Callable[[], object]:
    return saved(folder, {"model": mlp(), "a": Call(set, (torch.zeros(1).expand(MANY),))})


@attack
def tuples_in_tuples(folder: Path) -> Callable[[], object]:
    return zipped(folder, b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s.")


@attack
def lists_without_end(folder: Path) -> Callable[[], object]:
    return zipped(folder, b"\x80\x02(" + b"]" * (3 << 20) + b"t.")


@attack
def keys_with_one_hash(folder: Path) -> Callable[[], object]:
    return saved(folder, {"model": mlp(), "a": {number * (2**61 - 1): None for number in range(1, 5000)}})


@attack
def long_names(folder: Path) -> Callable[[], object]:
    return saved(folder, {"x" * (1 << 20): 1, "y": {"z" * (1 << 20): mlp()}})


@attack
def classes_without_end(folder: Path) -> Callable[[], object]:
    return zipped(folder, b"\x80\x02(" + b"".join(b"ca\n%d\n" % number for number in range(100_000)) + b"t.")


# -- safetensors and indices -----------------------------------------------------------------------------------


def with_header(folder: Path, header: dict[str, Any], data: bytes = b"") -> Callable[[], object]:
    text = json.dumps({"__metadata__": {"zoo": json.dumps(HEADER)}, **header}).encode()
    (folder / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)

    def read() -> object:
        return checkpoint.load(folder / "w.safetensors")

    return read


@attack
def large_header(folder: Path) -> Callable[[], object]:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    return with_header(folder, {f"{number:03000}": empty for number in range(1000)})


@attack
def shape_beyond_all_numbers(folder: Path) -> Callable[[], object]:
    return with_header(folder, {"a": {"dtype": "F32", "shape": [0, 2**64 - 1], "data_offsets": [0, 0]}})


@attack
def shape_of_many_axes(folder: Path) -> Callable[[], object]:
    return with_header(folder, {"a": {"dtype": "F32", "shape": [1] * 100_000, "data_offsets": [0, 4]}}, b"\0" * 4)


@attack
def network_cut_from_a_huge_one(folder: Path) -> Callable[[], object]:
    """A million classes and one neuron before them: 5 MB, and 16 GB where the dense network is built first."""
    with torch.device("meta"):
        widths = dict.fromkeys(models.build("vgg11", head="full").widths, 1)
        state = models.build("vgg11", num_classes=10**6, widths=widths, head="full").state_dict()
    header = {"arch": "vgg11", "num_classes": 10**6, "options": {"head": "full"}, "widths": widths}
    zeros = {name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in state.items()}
    save_file(zeros, folder / "w.safetensors", {"zoo": json.dumps(header)})
    return lambda: checkpoint.load(folder / "w.safetensors")


@attack
def large_index(folder: Path) -> Callable[[], object]:
    places = {"0" * 9_000_000: "w.bin"}
    (folder / "w.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return converting(folder / "w.safetensors.index.json")


# -- files that claim what they have: 20 MB of weights, to see that this is told from the rest -----------------


def honest() -> tuple[torch.nn.Module, dict[str, Any]]:
    options = {"in_features": 50_000}
    return models.build("mlp", num_classes=3, **options), {"arch": "mlp", "num_classes": 3, "options": options}


@attack
def honest_conversion(folder: Path) -> Callable[[], object]:
    return saved(folder, honest()[0].state_dict())


@attack
def honest_conversion_before_1_6(folder: Path) -> Callable[[], object]:
    return saved(folder, honest()[0].state_dict(), zipped=False)


@attack
def honest_checkpoint(folder: Path) -> Callable[[], object]:
    model, described = honest()
    checkpoint.save(model, folder / "w.safetensors", **described)
    return lambda: checkpoint.load(folder / "w.safetensors")


@attack
def honest_bundle(folder: Path) -> Callable[[], object]:
    make(store.user_dir(), "a.shapes", os.urandom(20 << 20))
    bundles.bundle(["a"], folder / "w.zip")
    shutil.rmtree(store.user_dir())
    return lambda: bundles.install(folder / "w.zip")


def main(folder: Path) -> None:
    os.environ["ZOO_HOME"] = str(folder / "home")
    saved(folder, mlp())()  # what is imported late does not count
    with open("/proc/self/status") as file:
        now = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (now + (4 << 30), -1))
    results = {}
    for name, write in ATTACKS.items():
        call, sentence = write(folder), "no error"
        size = max(path.stat().st_size for path in folder.glob("w.*"))
        started = time.process_time()
        with measured_peak() as grown:
            try:
                call()
            except ZooError as error:
                sentence = str(error)
            except Exception as error:
                sentence = f"{type(error).__name__}: {error}"
        results[name] = (size, *grown, time.process_time() - started, sentence)
        for path in folder.glob("w.*"):
            path.unlink()
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
