"""What a pickle of weights may ask for: the calls that torch.save writes, and no more bytes than the file has.

``weights_only=True`` keeps code from running, but memory follows what a file says: ``bytearray(10**11)`` is allowed, a
storage has as many numbers as is written there, and one array can be copied a million times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, TypeGuard

import torch

_MAX_STEPS = 2_000_000  # reads of an operation or of its argument; a network with 1000 tensors takes 80 000
_MAX_LONG = 4096  # integers beyond 32 bits: a million of them can be made to share one hash
_MAX_AXES = 64  # torch's own limit in most places
_ITEM_BYTES = {
    "Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    "ComplexFloat": 8, "ComplexDouble": 16, "QInt32": 4, "QInt8": 1, "QUInt8": 1, "QUInt4x2": 1, "QUInt2x4": 1,
    "Untyped": 1,
}  # fmt: skip
_TENSORS = {f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3")}
_PARAMETERS = {f"torch._utils._rebuild_parameter{rest}" for rest in ("", "_with_state")}
_TYPED = "torch._tensor._rebuild_from_type_v2"
_SPARSE = "torch._utils._rebuild_sparse_tensor"
_CONTAINERS = {
    "collections.OrderedDict", "collections.Counter", "builtins.set", "builtins.complex", "torch.Size", "torch.device",
}  # fmt: skip
_TEXTS = {"_codecs.encode", "builtins.bytearray", "builtins.bytes"}
_SCALARS = {f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")}
_ARRAYS = {f"numpy.{core}.multiarray._reconstruct" for core in ("core", "_core")}
_WITH_DICTIONARY = {"collections.OrderedDict", "collections.Counter", "argparse.Namespace"}  # as their state
_CALLED = _TENSORS | _PARAMETERS | _CONTAINERS | _TEXTS | _SCALARS | _ARRAYS | _WITH_DICTIONARY | {
    _TYPED, _SPARSE, "numpy.dtype", "torch.serialization._get_layout", "torch._utils._rebuild_meta_tensor_no_storage",
}  # fmt: skip
_ARGUMENTS = {"numpy.ndarray", "torch.Tensor", "torch.nn.parameter.Parameter"}  # never called
_REFUSED = {
    "torch._utils._rebuild_qtensor": "quantized",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_wrapper_subclass": "of a class of their own",
    "torch._utils._rebuild_device_tensor_from_numpy": "of a device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "of a device",
}


class RefusedPickleError(Exception):
    """The message is the end of a sentence that begins with the path of the file."""


class Placeholder:
    """What stands for a class, a function, or what it makes.

    path     its name, as builtins.set
    numel    of a storage: the numbers in the file
    length   of encoded text: its bytes
    repeats  of a tensor: whether it has more numbers than its storage
    """

    path: ClassVar[str] = ""
    numel: int | None = None
    length = 0
    repeats = False


class Claims:
    """What the pickles of one file ask for so far; each method raises `RefusedPickleError` for what is too much.

    size      bytes of the file
    records   bytes of each record of a zip file by key, in small letters; None where the storages lie behind the
              pickles, so that all together are in `size`
    storages  bytes of each storage by key
    """

    def __init__(self, size: int, records: Mapping[str, int] | None = None) -> None:
        self.size, self.records = size, records
        self.storages: dict[str, int] = {}
        self._steps = self._copied = self._long = 0

    def step(self) -> None:
        """Count one operation of a pickle."""
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise RefusedPickleError(f"its lists and names take more than {_MAX_STEPS} steps to read")

    def long_integer(self) -> None:
        """Count an integer of more than 32 bits."""
        self._long += 1
        if self._long > _MAX_LONG:
            raise RefusedPickleError(f"it holds more than {_MAX_LONG} integers of more than 32 bits")

    def storage(self, identity: object, made: Placeholder) -> None:
        """A storage by its persistent id: its bytes must be in the file."""
        kind, key, _, numel, *_ = identity[1:] if isinstance(identity, tuple) and len(identity) >= 5 else (None,) * 4
        if not (_is_class(kind) and isinstance(key, str) and type(numel) is int and numel >= 0):
            raise RefusedPickleError("it has a storage without a type, a key or a size")
        name = kind.path.rpartition(".")[2].removesuffix("Storage")
        size = numel * _ITEM_BYTES.get(name, max(_ITEM_BYTES.values()))
        self.storages[key] = max(size, self.storages.get(key, 0))
        all_together = self.records is None and sum(self.storages.values()) > self.size
        if all_together or (self.records is not None and size > self.records.get(key.lower(), -1)):
            raise RefusedPickleError(f"a storage of {size} bytes is not in it")
        made.numel = numel

    def call(self, path: str, arguments: tuple[object, ...], made: Placeholder) -> None:
        """A call of a function or class. Those that torch.save does not write are not called: they are told apart by
        `is_known`."""
        self._copy(*arguments)
        first = arguments[0] if arguments else None
        if path in _REFUSED:
            raise RefusedPickleError(f"it holds tensors that are {_REFUSED[path]}: save ordinary, dense ones")
        if path in _TENSORS:
            made.repeats = _repeats(*arguments[:4])
        elif path in _PARAMETERS:
            made.repeats = isinstance(first, Placeholder) and first.repeats
        elif path == _TYPED:
            if len(arguments) != 4 or not _is_class(first) or not isinstance(arguments[2], tuple):
                raise _unusual(path)
            self.call(first.path, arguments[2], made)
        elif path == _SPARSE:
            parts = arguments[1] if len(arguments) == 2 and isinstance(arguments[1], tuple) else ()
            if any(isinstance(part, Placeholder) and part.repeats for part in parts):  # they would all be checked
                raise _unusual(path)
        elif path in _CONTAINERS:
            items = first if isinstance(first, list | tuple) else ()
            self._copy(*items)
            pairs = path != "collections.OrderedDict" or all(isinstance(item, list | tuple) for item in items)
            if not pairs or any(isinstance(argument, Placeholder) for argument in arguments):
                raise _unusual(path)
        elif path in _TEXTS:
            plain = isinstance(first, str) and arguments[1:] in (("latin1",), ("latin-1",))
            if arguments and not (plain or (_is_text(first) and len(arguments) == 1)):
                raise _unusual(path)
            made.length = _length(first)
        elif path in _SCALARS:
            if not _is_dtype(first):
                raise _unusual(path)
        elif path not in _CALLED and is_known(path):
            raise _unusual(path)

    def state(self, path: str, state: object) -> None:
        """What is given to an object that was made before."""
        if path in _ARRAYS:
            _, shape, dtype, _, data = state if isinstance(state, tuple) and len(state) == 5 else (None,) * 5
            whole = isinstance(shape, tuple) and all(type(length) is int for length in shape)
            if not (whole and _is_dtype(dtype) and (_is_text(data) or isinstance(data, bytes))):
                raise _unusual(path)
            self._copy(shape, data)
        elif path in _WITH_DICTIONARY and isinstance(state, dict):
            self._copy(state)
        elif is_known(path) and path != "numpy.dtype":
            raise _unusual(path)

    def _copy(self, *values: object) -> None:
        """Count what is copied: a pickle can pass the same value any number of times."""
        self._copied += 1 + sum(map(_length, values))
        if self._copied > 2 * self.size + 1000:
            raise RefusedPickleError("it makes the same data again and again")


def is_known(path: str) -> bool:
    """Whether torch.save writes that name for tensors, numbers and text, so that torch would take it."""
    if path in _CALLED or path in _ARGUMENTS or path in _REFUSED:
        return True
    module, _, name = path.rpartition(".")
    if module in ("torch", "torch.cuda", "torch.storage") and name.endswith("Storage"):
        return name.removesuffix("Storage") in _ITEM_BYTES
    return module == "torch" and isinstance(getattr(torch, name, None), torch.dtype | torch.qscheme)


def _repeats(storage: object = None, offset: object = 0, size: object = None, stride: object = None) -> bool:
    """Whether a tensor has more numbers than its storage; an error if it reaches beyond, for torch would enlarge it."""
    numel = storage.numel if isinstance(storage, Placeholder) else None
    if numel is None or not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)):
        raise RefusedPickleError("a tensor in it has no storage or no shape")
    if len(size) > _MAX_AXES or any(type(number) is not int or number < 0 for number in (offset, *size, *stride)):
        raise RefusedPickleError(f"a tensor in it has a shape that is not one of at most {_MAX_AXES} whole numbers")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= numel:
        raise RefusedPickleError(f"a tensor of the shape {list(size)} in it reaches beyond its numbers")
    return math.prod(size) > numel


def _length(value: object) -> int:
    if isinstance(value, Placeholder):
        return value.length
    return len(value) if isinstance(value, str | bytes | list | dict | tuple) else 0


def _is_text(value: object) -> bool:
    return isinstance(value, Placeholder) and value.path in _TEXTS


def _is_class(value: object) -> TypeGuard[type[Placeholder]]:
    return isinstance(value, type) and issubclass(value, Placeholder)


def _is_dtype(value: object) -> bool:
    return isinstance(value, Placeholder) and value.path == "numpy.dtype"


def _unusual(path: str) -> RefusedPickleError:
    return RefusedPickleError(f"it calls {path} as torch.save never does")
