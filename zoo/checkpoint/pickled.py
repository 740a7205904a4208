"""Reading the files of torch.save, and saying what stands in the way where that fails. Nothing in a file runs."""

from __future__ import annotations

import io
import pickle
import re
import shlex
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch

from zoo.checkpoint.numpy_pickles import ALLOWED
from zoo.errors import ZooError

_MAX_PICKLE = 16 << 20  # bytes of a pickle that are searched for the key of a class; the weights lie apart
_LEGACY_PREFIX = 3  # pickles of a file of old before the one with the names: magic number, protocol, system


def read_pickled(path: Path) -> Any:
    """What torch.save wrote into a file, its tensors on the CPU: read with ``weights_only=True``.

    Raises ZooError for a damaged file and for one that needs a class to be read, with its name and its key.
    """
    try:
        with torch.serialization.safe_globals(ALLOWED), warnings.catch_warnings(), open(path, "rb") as file:
            warnings.simplefilter("ignore")  # on protocols other than torch.save's: the file is read or refused
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything at all
        raise ZooError(f"{path} cannot be read as weights: {_reason(path, str(error))}") from error


def _reason(path: Path, message: str) -> str:
    """Why torch.load failed, and what to do."""
    found = re.search(r"GLOBAL (\S+)", message)
    if found is None:
        if "Unsupported operand" in message:
            return (
                "it is a pickle that torch.save did not write; save the weights anew where they come from, with "
                "torch.save(model.state_dict(), 'weights.pth')"
            )
        return "it is damaged or not complete, fetch it again"
    name = found[1]
    try:
        keys = next(_keys_to(_inert_content(path), name), None)
    except Exception:  # of a pickle that was made to be misread: the name of the class has to do
        keys = None
    load = f"torch.load({str(path.name)!r}, weights_only=False)"
    if keys == ():
        where, save = "", f"{load}.state_dict()"
        what = f"it holds a whole model of the class {name}, which only that class itself can read"
    else:
        where = "" if keys is None else f" under the key `{'.'.join(keys)}`"
        what = f"the class {name}{where} stands in the way, because nothing in such a file may run"
        save = f"{load}['state_dict']" if keys is None else f"{{k: v for k, v in {load}.items() if k != {keys[0]!r}}}"
        if keys and keys[0] in ("model", "ema", "net"):
            save = f"{load}[{keys[0]!r}].state_dict()"
    code = f"import torch; torch.save({save}, 'weights.pth')"
    quoted = shlex.quote(code) if set(path.name) & set('"$`\\!') else f'"{code}"'  # easier to read
    return f"{what}; if you trust who made the file, save the weights alone there: python -c {quoted}"


class _Inert:
    """Stands for whatever class or function a pickle names; keeps what it is given, and does nothing."""

    path: ClassVar[str] = ""

    def __new__(cls, *arguments: object, **_: object) -> _Inert:
        made = object.__new__(cls)
        object.__setattr__(made, "content", [*arguments])
        return made

    content: list[object]

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *arguments: object) -> _Inert:
        return _Inert(self, *arguments)

    def __setstate__(self, state: object) -> None:
        self.content.append(state)

    def __setitem__(self, key: object, value: object) -> None:
        self.content.append({key: value} if isinstance(key, str) else value)

    def append(self, value: object) -> None:
        self.content.append(value)


class _InertUnpickler(pickle._Unpickler):  # the one of C would take memory for whatever index a file names
    """Reads a pickle with `_Inert` classes in the place of all that it names."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        code: read for code, read in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
    }

    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # as pickles of torch.save call it
        return type(name, (_Inert,), {"path": f"{module}.{name}"})

    def persistent_load(self, pid: object) -> Any:
        return _Inert()


def _inert_content(path: Path) -> object:
    """The structure of a file of torch.save: dictionaries and lists as they are, all else inert."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
            with archive.open(name) as file:
                pickles, skip = file.read(_MAX_PICKLE), 0
    else:
        with open(path, "rb") as plain:
            pickles, skip = plain.read(_MAX_PICKLE), _LEGACY_PREFIX
    stream = io.BytesIO(pickles)
    if skip and not isinstance(_InertUnpickler(stream).load(), int):  # a pickle alone
        stream.seek(0)
        skip = 0
    for _ in range(skip - 1):
        _InertUnpickler(stream).load()
    return _InertUnpickler(stream).load()


def _keys_to(content: object, name: str) -> Iterator[tuple[str, ...]]:
    """The keys that lead to what stands for the class of that name; () where it is the whole content."""
    todo: list[tuple[tuple[str, ...], object]] = [((), content)]
    visited: set[int] = set()
    while todo:
        keys, node = todo.pop()
        kind = node if isinstance(node, type) else type(node)
        if issubclass(kind, _Inert) and name in (kind.path, kind.path.removeprefix("builtins.")):
            yield keys
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, dict):
            todo += [((*keys, key) if isinstance(key, str) else keys, value) for key, value in node.items()]
        elif isinstance(node, list | tuple | set):
            todo += [(keys, value) for value in node]
        elif isinstance(node, _Inert):
            todo += [(keys, value) for value in node.content]
