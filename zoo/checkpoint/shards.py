"""Weights in several files: an index in JSON says which file has which tensor, as Hugging Face's libraries write it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from zoo.errors import ZooError

_MAX_NAME = 200  # letters of the name of a file
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<total>\d{5})\.(?P<ending>safetensors|bin)")


def read_shards(index: Path, read: Callable[[Path], object]) -> dict[str, Tensor]:
    """The tensors that an index lists, from the files beside it, each read by `read`.

    Raises ZooError for a file that is missing or not beside the index, and for a tensor that is not where it should be.
    """
    try:
        places = {str(name): str(file) for name, file in json.loads(index.read_bytes())["weight_map"].items()}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ZooError(f"{index} is no index of weights: expected JSON with a weight_map") from error
    names: dict[str, list[str]] = {}
    for name, file in places.items():
        names.setdefault(file, []).append(name)
    files = sorted(names)
    for file in files:
        if Path(file).name != file or "\\" in file or file in ("", ".", "..") or len(file) > _MAX_NAME:
            raise ZooError(f"{index} names {file[:_MAX_NAME]!r}: the files of an index lie beside it")
        if not (index.parent / file).is_file():
            raise ZooError(f"{index} lists {file}, which is not beside it: fetch all {len(files)} files of the index")
    state: dict[str, Tensor] = {}
    for file in files:
        content = read(index.parent / file)
        for name in names[file]:
            tensor = content.get(name) if isinstance(content, dict) else None
            if not isinstance(tensor, Tensor):
                raise ZooError(f"{index} says that {file} has the tensor {name}, but it has not")
            state[name] = tensor
    return state


def check_not_a_shard(path: Path) -> None:
    """Raise ZooError for one of several files of weights; names the index that lists them all, if it is there."""
    match = _SHARD.fullmatch(path.name)
    if match is not None and int(match["total"]) > 1:
        index = path.with_name(f"{match['stem']}.{match['ending']}.index.json")
        here = index.is_file()
        what = f"give their index instead, {index}" if here else f"fetch them all, and their index {index.name}"
        raise ZooError(f"{path} is one of {int(match['total'])} files that together are the weights: {what}")
