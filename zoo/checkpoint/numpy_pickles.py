"""What stands for NumPy's scalars and arrays while a pickle is read with ``weights_only=True``.

Training scripts store accuracies as ``np.float64`` beside the weights. torch's allow list takes a function under the
name that a pickle has for it. So these stand-ins take the places of NumPy's own functions, which would also accept
object types, strides and sizes that only a hostile file has: they make Python numbers and tensors of plain numbers, or
fail.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_TYPES = {
    "f2": torch.float16, "f4": torch.float32, "f8": torch.float64, "b1": torch.bool, "i1": torch.int8,
    "i2": torch.int16, "i4": torch.int32, "i8": torch.int64, "u1": torch.uint8, "u2": torch.uint16,
    "u4": torch.uint32, "u8": torch.uint64,
}  # fmt: skip


class DType:
    """A type of plain numbers in the byte order of this machine; any other is an error when it is used."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            raise ValueError("big-endian numbers")

    def tensor(self, data: bytes, shape: tuple[int, ...]) -> Tensor:
        """The numbers in `data`, which has exactly the bytes that the shape asks for."""
        dtype = _TYPES[self.code]
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError("bytes and shape contradict each other")
        return torch.tensor(bytearray(data), dtype=torch.uint8).view(dtype).reshape(shape)


class Array:
    """An array of plain numbers; `value` is the tensor with them."""

    value: Tensor | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_columns, data = state
        value = dtype.tensor(data, tuple(reversed(shape)) if by_columns else shape)
        self.value = value.permute(*reversed(range(len(shape)))) if by_columns else value


def _scalar(dtype: DType, data: bytes) -> float | int | bool:
    return dtype.tensor(data, ()).item()


def _array(kind: type[Array], *_: object) -> Array:
    if kind is not Array:
        raise ValueError("not an array")
    return Array()


def _no_bytes(*arguments: object) -> bytes:
    """What the data of an empty array are a call of."""
    if arguments:
        raise ValueError("bytes of arguments")
    return b""


# For `torch.serialization.safe_globals`. The modules are those of NumPy 1 and 2. A Namespace, as argparse makes it,
# only holds what it is given.
ALLOWED: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (DType, "numpy.dtype"),
    (Array, "numpy.ndarray"),
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    (_no_bytes, "builtins.bytes"),
    Namespace,
]
