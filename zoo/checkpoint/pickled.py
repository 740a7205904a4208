"""Reading the files of torch.save, and saying what stands in the way where that fails. Nothing in a file runs.

Each file is read twice: first with inert objects, which counts what it asks for (`zoo.checkpoint.claims`), and where
that is no more than it has, by torch.
"""

from __future__ import annotations

import io
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import torch

from zoo.checkpoint.claims import Claims, RefusedPickleError
from zoo.checkpoint.inert import Inert, InertUnpickler
from zoo.checkpoint.numpy_pickles import ALLOWED
from zoo.errors import ZooError
from zoo.utils import check_stored, open_zip

_MAX_KEYS = 8  # that are named of those that lead to a class
_DAMAGED = "it is damaged or not complete, fetch it again"


def read_pickled(path: Path) -> Any:
    """What torch.save wrote into a file, its tensors on the CPU: read with ``weights_only=True``.

    Raises ZooError for a damaged file, for one that needs a class to be read, with its name and its key, and for one
    that asks for more memory than its bytes fill.
    """
    try:
        with _checked(path) as file, torch.serialization.safe_globals(ALLOWED), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on protocols other than torch.save's: the file is read or refused
            return torch.load(file, map_location="cpu", weights_only=True)
    except (RefusedPickleError, ZooError) as error:
        raise ZooError(f"{path} cannot be read as weights: {error}") from error
    except Exception as error:  # a damaged pickle can raise anything at all
        raise ZooError(f"{path} cannot be read as weights: {_DAMAGED}") from error


@contextmanager
def _checked(path: Path) -> Iterator[Any]:
    """The bytes of a file that torch can be given, as a file: in memory as far as they are read."""
    with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        if data[:4] == b"PK\x03\x04":
            with open_zip(path) as archive:
                check_stored(archive, len(data))
                (name,) = (name for name in archive.namelist() if name.rpartition("/")[2].lower() == "data.pkl")
                folder = f"{name.rpartition('/')[0]}/data/"
                records = {member.filename.removeprefix(folder).lower(): member.file_size
                           for member in archive.infolist() if member.filename.startswith(folder)}  # fmt: skip
                _check(path, InertUnpickler(io.BytesIO(archive.read(name)), Claims(len(data), records)))
            yield file
        else:
            claims = Claims(len(data))
            magic = _check(path, InertUnpickler(data, claims))
            if magic != torch.serialization.MAGIC_NUMBER:
                raise RefusedPickleError(_DAMAGED)
            *_, keys = (_check(path, InertUnpickler(data, claims)) for _ in range(4))  # after protocol, system, content
            if set(keys) != claims.storages.keys():  # the others would hold what was in memory before
                raise RefusedPickleError(_DAMAGED)
            data.seek(0)
            # Not the file itself: of that torch would read as many bytes at once as are said to be there.
            yield data


def _check(path: Path, unpickler: InertUnpickler) -> Any:
    """The content of a pickle; RefusedPickleError where a foreign class or function is in it, with its key."""
    try:
        content = unpickler.load()
        keys = next(_keys_to(content, unpickler.foreign), None) if unpickler.foreign else None
    except Exception:
        if not unpickler.foreign:
            raise
        keys = None  # of a pickle that was made to be misread: the name of the class has to do
    if unpickler.foreign:
        raise RefusedPickleError(_advice(path, unpickler.foreign.removeprefix("builtins."), keys))
    return content


def _advice(path: Path, name: str, keys: tuple[str, ...] | None) -> str:
    """Which class stands in the way, and what to do."""
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


def _keys_to(content: object, name: str) -> Iterator[tuple[str, ...]]:
    """The keys that lead to what stands for the class of that name; () where it is the whole content."""
    todo: list[tuple[tuple[str, ...], object]] = [((), content)]
    visited: set[int] = set()
    while todo:
        keys, node = todo.pop()
        kind = node if isinstance(node, type) else type(node)
        if issubclass(kind, Inert) and name in (kind.path, kind.path.removeprefix("builtins.")):
            yield keys
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, dict):
            more = len(keys) < _MAX_KEYS
            todo += [((*keys, key) if more and isinstance(key, str) else keys, value) for key, value in node.items()]
        elif isinstance(node, list | tuple | set):
            todo += [(keys, value) for value in node]
        elif isinstance(node, Inert):
            todo += [(keys, value) for value in node.content]
