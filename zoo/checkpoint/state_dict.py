"""State dicts: reading them from files, checking that they fit a model, loading them strictly.

Nothing here runs code from a file: what torch.save wrote is read with ``weights_only=True``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from zoo.checkpoint.pickled import read_pickled
from zoo.checkpoint.shards import check_not_a_shard, read_shards
from zoo.checkpoint.unwrap import FoundWeights, find_weights, strip_prefixes
from zoo.errors import ZooError, first_line
from zoo.utils import check_format, weights_format

_MAX_REPEATED = 4  # times the bytes that are there, which all tensors of a state dict can have together
_FEW_BYTES = 1 << 16  # which do not matter
_MAX_AXES = 8  # that are written out
_MAX_NAME = 200  # letters of the name of a tensor that are shown


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU: `read_weights_file` without a choice."""
    return read_weights_file(path).state


def read_weights_file(path: str | Path, *, key: str | None = None, expected: Collection[str] = ()) -> FoundWeights:
    """The weights in a file of torch.save or of safetensors, or in the files that an index of shards lists.

    key       the key that the weights lie under, where it is not found or another than the one that is; with dots
              between, where it lies below others
    expected  the names of the tensors of the network, which say how much of a prefix of all names is to be removed

    The content of the file says what it is, not its ending. Weights that a training script saved under ``state_dict``,
    ``model`` or another usual key are found, averaged ones (``model_ema``) before others, and the prefixes of
    DataParallel (``module.``), Lightning (``model.``) and torch.compile (``_orig_mod.``) are removed. NumPy's arrays
    become tensors.

    Raises ZooError for a missing file, one that is no file of weights (a Git-LFS pointer, a web page...), a damaged
    one, one that needs code to be read, and one without weights under a usual key or the given one.
    """
    path = Path(path)
    kind = weights_format(path)
    check_not_a_shard(path)
    content: object = read_shards(path, _content) if kind == "index" else _content(path, kind)
    found = find_weights(content, path, key=key)
    return replace(found, state=strip_prefixes(found.state, expected))


def _content(path: Path, kind: str | None = None) -> object:
    """What a single file of that kind holds; what kind it is, is seen where that is not known."""
    kind = kind or weights_format(path)
    if kind == "torch":
        return read_pickled(path)
    if kind == "index":
        raise ZooError(f"{path} is an index where the weights were expected")
    with open_safetensors(path) as file:
        return tensors_of(path, file)


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor], *, source: str) -> None:
    """Load a state dict strictly; ``source`` is its origin for error messages.

    Only batch norm's ``num_batches_tracked`` may be missing, as in files older than torch 0.4.1.

    Raises ZooError, with the first misfit in sorted order, if the state dict does not fit, and for numbers that are not
    finite in the model's type, with the name of their tensor; the model is then unchanged.
    """
    check_fit(model, state_dict, source=source)
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    check_finite(state_dict, source=source, dtype=dtype)
    model.load_state_dict(dict(state_dict), strict=False)  # missing counters are allowed; the rest is checked above


def check_fit(model: nn.Module, state_dict: Mapping[str, Tensor], *, source: str) -> None:
    """Raise ZooError unless the state dict fits the model as `load_weights` requires; the model may be on "meta".

    A model that fits takes at most a small multiple of the memory that the state dict has: a tensor that repeats the
    same numbers can claim any size.
    """
    expected = model.state_dict()
    misfits = []
    for name in sorted(expected.keys() | state_dict.keys()):
        text = name[:_MAX_NAME]
        if name not in state_dict:
            if not name.endswith("num_batches_tracked"):
                misfits.append(f"{text} {_shape(expected[name])} is missing")
        elif name not in expected:
            misfits.append(f"{text} {_shape(state_dict[name])} is not part of the model")
        elif expected[name].shape != state_dict[name].shape:
            misfits.append(f"{text} is {_shape(state_dict[name])} there and {_shape(expected[name])} in the model")
        elif expected[name].is_floating_point() and not state_dict[name].is_floating_point():
            misfits.append(f"{text} is of type {state_dict[name].dtype} there and {expected[name].dtype} in the model")
    if misfits:
        more = f" (and {len(misfits) - 1} more)" if len(misfits) > 1 else ""
        raise ZooError(f"the weights of {source} do not fit {type(model).__name__}: {misfits[0]}{more}")
    _check_dense(state_dict, source)
    claimed = {name: tensor.numel() * tensor.itemsize for name, tensor in state_dict.items()}
    there = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in state_dict.values()}
    if sum(claimed.values()) > _MAX_REPEATED * sum(there.values()) + _FEW_BYTES:
        name = max(claimed, key=claimed.__getitem__)
        raise ZooError(
            f"the tensors of {source} repeat the same numbers again and again, as {name} {_shape(state_dict[name])}: "
            "save the clone() of each"
        )


def _check_dense(state_dict: Mapping[str, Tensor], source: str) -> None:
    """Raise ZooError for the first tensor, in sorted order, that holds no plain numbers."""
    for name, tensor in sorted(state_dict.items()):
        if tensor.is_meta or tensor.is_quantized or tensor.layout != torch.strided:
            kind = "without numbers" if tensor.is_meta else "quantized" if tensor.is_quantized else "sparse"
            raise ZooError(f"the tensor {name} of {source} is {kind}: save it as an ordinary, dense tensor")


def check_finite(state_dict: Mapping[str, Tensor], *, source: str, dtype: torch.dtype = torch.float32) -> None:
    """Raise ZooError for the first tensor, in sorted order, that holds NaN or infinity once it is of the network's
    `dtype`, and for a variance (``running_var``) below 0, of which batch norm makes NaN."""
    for name, tensor in sorted(state_dict.items()):
        numbers = tensor.to(dtype) if tensor.is_floating_point() else tensor
        numbers = numbers.float() if numbers.dtype.itemsize == 1 else numbers  # float8 cannot be asked
        finite = numbers.isfinite()
        if not finite.all():
            where = f"the tensor {name} of {source} has {int((~finite).sum())} of {tensor.numel()} numbers that"
            if tensor.dtype.itemsize > 1 and tensor.isfinite().all():
                raise ZooError(f"{where} {dtype} cannot hold: the network would get infinite weights")
            what = "NaN" if numbers.isnan().any() else "infinite"
            raise ZooError(
                f"{where} are not finite ({what}): the training that made it has diverged, take an earlier checkpoint"
            )
        if name.rpartition(".")[2] == "running_var" and (below := int((tensor.float() < 0).sum())):
            raise ZooError(
                f"the tensor {name} of {source} has {below} of {tensor.numel()} numbers below 0, and variances are not"
            )


def large_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The real parameters with 2 or more dimensions; a shared parameter appears under each of its names."""
    named = model.named_parameters(remove_duplicate=False)
    return {name: weight for name, weight in named if weight.ndim >= 2 and weight.is_floating_point()}


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """A safetensors file, open for reading; ZooError for a missing or damaged one, or one of another format."""
    check_format(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ZooError(f"{path} is not a safetensors file, or a damaged one: {error}") from error


def tensors_of(path: Path, file: Any) -> dict[str, Tensor]:
    """The tensors by name in a file of `open_safetensors`."""
    try:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
    except Exception as error:  # of a shape or a type that torch has not
        raise ZooError(f"{path} holds a tensor that cannot be read: {first_line(error)}") from error


def _shape(tensor: Tensor) -> str:
    axes = list(tensor.shape)
    return str(axes) if len(axes) <= _MAX_AXES else f"of {len(axes)} axes"
