"""What a file of weights is, by its first bytes and not by its ending. A wrong one is named without torch."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, Literal

from zoo.errors import ZooError
from zoo.utils.stored_zip import open_zip

# What the names of files of weights end in; such a name given in the place of an entry's means the file.
WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".t7", ".tar", ".ckpt", ".bin", ".safetensors.index.json")
Format = Literal["safetensors", "torch", "index"]

_MAX_JSON = 8 << 20  # bytes of an index; that of a network of 70 G parameters has 60 kB
_MAX_HEADER = 2 << 20  # bytes of the header of a safetensors file, 70 for each tensor
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save's magic number, as a pickle
_LUA = (b"\x03\x00\x00\x00", b"\x04\x00\x00\x00")  # a table, an object: what Lua Torch's .t7 files begin with
_OTHERS = (  # first bytes -> what the file is, and what to do
    (b"version https://git-lfs", "a Git-LFS pointer ({size} bytes): `git lfs pull` in its repository brings the file"),
    (b"<!doctype", "a web page (HTML), as a log-in or an error gives: download the file itself"),
    (b"<html", "a web page (HTML), as a log-in or an error gives: download the file itself"),
    (b"<?xml", "an XML text, as servers send with an error: download the file itself"),
    (b"\x1f\x8b", "compressed (gzip): unpack it, and give the file in it"),
    (b"BZh", "compressed (bzip2): unpack it, and give the file in it"),
    (b"\xfd7zXZ", "compressed (xz): unpack it, and give the file in it"),
    (b"\x89HDF", "an HDF5 file, as Keras writes: weights are read from files of PyTorch and from safetensors"),
    (b"\x93NUMPY", "an array of NumPy: weights are read from files of PyTorch and from safetensors"),
)


def weights_format(path: Path) -> Format:
    """How a file holds weights: "safetensors", "torch" (a zip file or pickles of torch.save), or "index" (of shards).

    Raises ZooError for a missing file, a folder, and a file that is something else, which the sentence names.
    """
    if path.is_dir():
        raise ZooError(f"{path} is a folder: give the file of weights in it{_example(path)}")
    if not path.is_file():
        raise ZooError(f"there is no file {path}")
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(512)
    if not head:
        raise _no_weights(path, "empty (0 bytes): its download or copy did not finish, fetch it again")
    start = head.lstrip().lower()
    for magic, what in _OTHERS:
        if head.startswith(magic) or start.startswith(magic):
            raise _no_weights(path, what.format(size=size))
    if head.startswith(b"PK\x03\x04"):
        return _zip_format(path)
    if head[257:262] == b"ustar":
        raise _no_weights(path, "a tar archive: unpack it, and give the file of weights in it")
    if head[8:9] == b"{" and 2 <= (length := int.from_bytes(head[:8], "little")) <= size - 8:
        if length > _MAX_HEADER:
            raise ZooError(f"{path} has a header of {length} bytes, and at most {_MAX_HEADER} are read")
        return "safetensors"
    if start.startswith(b"{") and size > _MAX_JSON:
        raise _no_weights(path, f"a JSON text of {size} bytes: of an index at most {_MAX_JSON} are read")
    if start.startswith(b"{") and (index := _json(path)) is not None:
        if isinstance(index, dict) and isinstance(index.get("weight_map"), dict):
            return "index"
        raise _no_weights(path, "a JSON text: give the weights, or an index with a weight_map")
    if head.startswith(_LUA):
        raise _no_weights(path, "of Lua Torch, not of PyTorch: load it with the package torchfile and save it anew")
    if size > 8 and head[:1] != b"\x80" and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        line = head.decode().strip().splitlines()[0] if head.strip() else ""
        raise _no_weights(path, f"a text that begins with {line[:60]!r}: download the file itself")
    damaged = path.suffix == ".safetensors" and not head.startswith(_LEGACY)
    return "safetensors" if damaged else "torch"  # or damaged as well, as its reader will say


def check_format(path: Path) -> None:
    """Raise ZooError for a file of weights in another format than the zoo's checkpoints; it says how to convert it."""
    if weights_format(path) != "safetensors":
        raise ZooError(f"{path} holds weights but is no checkpoint of the zoo: {convert_command(path)} makes one")


def checkpoint_header(path: Path) -> dict[str, Any]:
    """What the header of a checkpoint says of its network, unchecked; empty where there is none to read."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(json.loads(file.read(min(length, _MAX_HEADER)))["__metadata__"]["zoo"])
        except (ValueError, RecursionError, KeyError, TypeError):
            return {}
    return header if isinstance(header, dict) else {}


def convert_command(path: Path) -> str:
    """The command that makes a checkpoint of other weights."""
    stem = path.name.partition(".")[0] or "weights"
    name = f"{stem}-zoo" if path.suffix == ".safetensors" else stem
    return f"`zoo convert {shlex.quote(str(path))} --arch NETWORK -o {shlex.quote(name)}.safetensors`"


def _zip_format(path: Path) -> Format:
    """The format of a zip file of torch.save."""
    try:
        with open_zip(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except ZooError as error:
        raise ZooError(f"{path} cannot be read as weights: {error}") from error
    if "constants.pkl" in names:
        raise _no_weights(path, "a TorchScript program: save torch.jit.load(FILE).state_dict() with torch.save")
    if "data.pkl" not in names:
        raise _no_weights(path, "a zip archive without a file of torch.save in it: unpack it, and give the weights")
    return "torch"


def _json(path: Path) -> Any:
    """The JSON document in a file; None if there is none."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None


def _example(folder: Path) -> str:
    """The end of a sentence that names a file of weights in a folder, its index before all others."""
    files = sorted(file for file in folder.iterdir() if file.name.endswith((*WEIGHTS_SUFFIXES, ".index.json")))
    best = sorted(files, key=lambda file: not file.name.endswith(".index.json"))
    return f", as {best[0]}" if best else ""


def _no_weights(path: Path, what: str) -> ZooError:
    return ZooError(f"{path} is no file of weights: it is {what}")
