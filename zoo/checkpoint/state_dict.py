"""State dicts: reading them from files, checking that they fit a model, loading them strictly.

Nothing here runs code from a file: .pt and .pth files are read with ``weights_only=True``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from zoo.errors import ZooError

_NESTED = ("state_dict", "model_state_dict", "model")  # keys under which training scripts save the weights


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pt or .pth file by name, on the CPU.

    Weights that a training script saved under ``state_dict``, ``model_state_dict`` or ``model`` are found, and the
    prefix ``module.`` of DataParallel is removed.

    Raises ZooError for a missing file, another ending, a damaged file, and a file that holds more than tensors and
    plain data.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        with open_safetensors(path) as file:
            state: Any = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    elif path.suffix in (".pt", ".pth"):
        state = _read_pickled(path)
    else:
        raise ZooError(f"{path}: weights are read from .safetensors, .pt and .pth files")
    for key in _NESTED:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(map(_is_weight, state.items())):
        raise ZooError(f"{path} holds no weights: expected tensors by name, a model's state_dict()")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return dict(state)


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor], *, source: str) -> None:
    """Load a state dict strictly; ``source`` is its origin for error messages.

    Only batch norm's ``num_batches_tracked`` may be missing, as in files older than torch 0.4.1.

    Raises ZooError, with the first misfit in sorted order, if the state dict does not fit; the model is then unchanged.
    """
    check_fit(model, state_dict, source=source)
    model.load_state_dict(dict(state_dict), strict=False)  # missing counters are allowed; the rest is checked above


def check_fit(model: nn.Module, state_dict: Mapping[str, Tensor], *, source: str) -> None:
    """Raise ZooError unless the state dict fits the model as `load_weights` requires; the model may be on "meta"."""
    expected = model.state_dict()
    misfits = []
    for name in sorted(expected.keys() | state_dict.keys()):
        if name not in state_dict:
            if not name.endswith("num_batches_tracked"):
                misfits.append(f"{name} {_shape(expected[name])} is missing")
        elif name not in expected:
            misfits.append(f"{name} {_shape(state_dict[name])} is not part of the model")
        elif expected[name].shape != state_dict[name].shape:
            misfits.append(f"{name} is {_shape(state_dict[name])} there and {_shape(expected[name])} in the model")
        elif expected[name].is_floating_point() and not state_dict[name].is_floating_point():
            misfits.append(f"{name} is of type {state_dict[name].dtype} there and {expected[name].dtype} in the model")
    if misfits:
        more = f" (and {len(misfits) - 1} more)" if len(misfits) > 1 else ""
        raise ZooError(f"the weights of {source} do not fit {type(model).__name__}: {misfits[0]}{more}")


def large_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The real parameters with 2 or more dimensions; a shared parameter appears under each of its names."""
    named = model.named_parameters(remove_duplicate=False)
    return {name: weight for name, weight in named if weight.ndim >= 2 and weight.is_floating_point()}


@contextmanager
def open_safetensors(path: Path) -> Iterator[Any]:
    """A safetensors file, open for reading; ZooError for a missing or damaged one."""
    if not path.is_file():
        raise ZooError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ZooError(f"{path} is not a safetensors file, or a damaged one: {error}") from error


def _read_pickled(path: Path) -> Any:
    if not path.is_file():
        raise ZooError(f"there is no file {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything at all
        raise ZooError(
            f"{path} cannot be read as weights (torch.load with weights_only=True); "
            "a file that holds a whole model must be saved again from its state_dict()"
        ) from error


def _is_weight(item: tuple[object, object]) -> bool:
    name, tensor = item
    return isinstance(name, str) and isinstance(tensor, Tensor)


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
