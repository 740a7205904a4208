"""Checkpoints: one safetensors file whose header says how to build the network that its tensors belong to.

The header's metadata has one key, ``zoo``, with a JSON object of arch, num_classes, options and widths: one key,
because several would be written in an order that is not defined, and the same network must give the same file.
Large weights may be float16 in the file (`zoo.half_precision`); the network that is built from it has them in float32 again.
Nothing here runs code from a file: other people's .pt and .pth files are read with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from zoo import models
from zoo.cards import Card
from zoo.errors import ZooError
from zoo.utils import new_file

_LOG = logging.getLogger("zoo")
MOST_CLASSES = 1_000_000
_KEY = "zoo"
_NESTED = ("state_dict", "model_state_dict", "model")  # where training scripts put the weights among other things


def device_of(device: str | torch.device) -> torch.device:
    """The device, if this machine has it.

    Raises:
        ZooError: no such device, or CUDA is asked for and absent.
    """
    try:
        found = torch.device(device)
        if found.type == "meta":
            raise ValueError
    except (RuntimeError, TypeError, ValueError) as error:
        raise ZooError(f"{device!r} is not a device for a network: write cpu, cuda or cuda:0") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ZooError(
            f"device {str(device)!r} is asked for, but torch {torch.__version__} finds "
            f"{torch.cuda.device_count()} CUDA devices here; use cpu"
        )
    try:
        torch.empty(0, device=found)
    except Exception as error:  # each kind of device has errors of its own
        raise ZooError(f"device {str(device)!r} cannot be used here ({_first_line(error)}); use cpu") from error
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def save(
    model: nn.Module, path: str | Path, *, arch: str, num_classes: int, options: Mapping[str, Any]
) -> tuple[int, str]:
    """Write the model to one file and return its size and SHA-256.

    The file appears under ``path`` complete or not at all, also when the process is killed. The model's own
    ``widths`` go into the header. The same weights give the same bytes.

    Raises:
        ZooError: the file cannot be written; nothing is left under ``path`` that was not there before.
    """
    data = pack(model, arch=arch, num_classes=num_classes, options=options)
    with new_file(Path(path)) as out:
        out.write(data)
    return len(data), hashlib.sha256(data).hexdigest()


def pack(
    model: nn.Module, *, arch: str, num_classes: int, options: Mapping[str, Any], float16: Collection[str] = ()
) -> bytes:  # fmt: skip
    """The bytes of the model's checkpoint, as `save` writes them, the weights that `float16` names in that type.

    Raises:
        ZooError: the model has no widths, or no matrix or kernel of such a name, or float16 does not have it:
            `zoo.half_precision.halve` rounds.
    """
    widths = getattr(model, "widths", None)
    if not isinstance(widths, Mapping):
        raise ZooError(f"{type(model).__name__} cannot be saved: it has no `widths` (group name -> neurons)")
    header = {"arch": arch, "num_classes": num_classes, "options": dict(options), "widths": dict(widths)}
    # Clones: safetensors refuses tensors that share memory or have gaps, and both are fine in a model.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    large = large_weights(model)
    for name in float16:
        if name not in large:
            raise ZooError(f"{type(model).__name__} has no matrix or kernel {name!r} to store in half precision")
        tensors[name] = _exact(name, tensors[name])
    return to_bytes(tensors, {_KEY: json.dumps(header, sort_keys=True)})


def large_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The real parameters with 2 or more dimensions, under every name that the model's state has for them."""
    named = model.named_parameters(remove_duplicate=False)
    return {name: weight for name, weight in named if weight.ndim >= 2 and weight.is_floating_point()}


def _exact(name: str, tensor: Tensor) -> Tensor:
    """The same numbers as float16."""
    as_half = tensor.half()
    if not torch.equal(as_half.to(tensor.dtype), tensor):
        raise ZooError(f"{name} holds numbers that float16 does not have: round them first with zoo.half_precision.halve")
    return as_half


def dtype_of(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """A floating-point type of torch by its name.

    Raises:
        ZooError: there is no such type, or it is none for weights.
    """
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if found is None and dtype is None:
        return None
    if not isinstance(found, torch.dtype) or not found.is_floating_point or found.itemsize < 2:
        raise ZooError(f"{dtype!r} is no type for weights: write float32, float64, bfloat16 or float16")
    return found


def load(
    path: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None,
    num_classes: int | None = None, card: Card | None = None,
) -> nn.Module:  # fmt: skip
    """Build the network that the file's header describes, load its weights strictly, return it in eval mode.

    dtype        float32 otherwise, whatever the file has
    num_classes  with another one than the file's the tensors that depend on it stay as they were initialised, and a
                 warning names them
    card         must describe the same network

    Raises:
        ZooError: no such file, not one of the zoo's checkpoints, a header that builds no network or another one than
            the card's, weights that do not fit it (names the first tensor and both shapes), or no such device.
    """
    path, target = Path(path), device_of(device)
    if num_classes is not None and (type(num_classes) is not int or not 1 <= num_classes <= MOST_CLASSES):
        raise ZooError(f"num_classes is {num_classes!r}: give a whole number from 1 to {MOST_CLASSES}")
    with _opened(path) as file:
        header = _header(path, file.metadata())
        if card is not None:
            _compare(path, header, card)
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)

    def built(classes: int) -> nn.Module:
        try:
            return models.build(header["arch"], num_classes=classes, widths=header["widths"], **header["options"])
        except (TypeError, ValueError, RuntimeError) as error:
            raise ZooError(f"{path}: its header describes no network that can be built: {error}") from error

    with torch.device("meta"):  # whatever a header claims, it costs no memory before the weights agree
        claimed = built(header["num_classes"])
    check_fit(claimed, state, source=str(path))
    classes = num_classes or header["num_classes"]
    # Only a new head may draw random numbers: loading is no part of anybody's experiment.
    with torch.device("cpu"), torch.random.fork_rng(devices=[], enabled=classes == header["num_classes"]):
        model = built(classes)
    before = claimed.state_dict()
    new = sorted(name for name, tensor in model.state_dict().items() if tensor.shape != before[name].shape)
    model.load_state_dict({name: tensor for name, tensor in state.items() if name not in new}, strict=False)
    if new:
        _LOG.warning(
            "%s was made for %d classes: %s start anew for %d and have to be trained",
            path.name, header["num_classes"], ", ".join(new), classes,
        )  # fmt: skip
    return model.to(device=target, dtype=dtype or torch.float32).eval()


def _compare(path: Path, header: Mapping[str, Any], card: Card) -> None:
    """See that a card and the checkpoint's header describe one network."""
    for key, found in header.items():
        said = getattr(card, key)
        if json.dumps(found, sort_keys=True) != json.dumps(said, sort_keys=True):  # lists and tuples alike
            raise ZooError(
                f"the card of {card.name} and its checkpoint {path} contradict each other: {key} is {said!r} on the "
                f"card and {found!r} in the file's header"
            )


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor], *, source: str) -> None:
    """Copy the weights into the model; every tensor must be there, have its shape, and no other one may be.

    Counters of seen batches (``num_batches_tracked``) may be absent, as they are in files older than torch 0.4.1.
    ``source`` says in messages where the weights come from.

    Raises:
        ZooError: they do not fit; names the first such tensor in sorted order. The model is then unchanged.
    """
    check_fit(model, state_dict, source=source)
    model.load_state_dict(dict(state_dict), strict=False)  # strict but for the counters: checked above


def check_fit(model: nn.Module, state_dict: Mapping[str, Tensor], *, source: str) -> None:
    """Raise ZooError unless these are the model's tensors, as `load_weights` has it; the model may be on "meta"."""
    wanted = model.state_dict()
    wrong = []
    for name in sorted(wanted.keys() | state_dict.keys()):
        if name not in state_dict:
            if not name.endswith("num_batches_tracked"):
                wrong.append(f"{name} {_shape(wanted[name])} is missing")
        elif name not in wanted:
            wrong.append(f"{name} {_shape(state_dict[name])} is not part of the model")
        elif wanted[name].shape != state_dict[name].shape:
            wrong.append(f"{name} is {_shape(state_dict[name])} there and {_shape(wanted[name])} in the model")
        elif wanted[name].is_floating_point() and not state_dict[name].is_floating_point():
            wrong.append(f"{name} is of type {state_dict[name].dtype} there and {wanted[name].dtype} in the model")
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ZooError(f"the weights of {source} do not fit {type(model).__name__}: {wrong[0]}{more}")


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pt or .pth file by name, on the CPU.

    Weights that a training script put under ``state_dict``, ``model_state_dict`` or ``model`` are found, and the
    ``module.`` that DataParallel puts before every name is taken away.

    Raises:
        ZooError: no such file, another ending, not such a file, or one that holds more than tensors and plain data.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        with _opened(path) as file:
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


def _is_weight(item: tuple[object, object]) -> bool:
    name, tensor = item
    return isinstance(name, str) and isinstance(tensor, Tensor)


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


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise ZooError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ZooError(f"{path} is not a safetensors file, or a damaged one: {error}") from error


def _header(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        header = json.loads((metadata or {})[_KEY])
    except (KeyError, ValueError, RecursionError) as error:
        raise ZooError(
            f"{path} holds tensors but does not say which network they belong to; "
            "zoo.checkpoint.read_state and load_weights put them into a model that you build"
        ) from error
    kinds = {"arch": str, "num_classes": int, "options": dict, "widths": dict}
    if not isinstance(header, dict) or header.keys() != kinds.keys():
        raise ZooError(f"{path}: its header must hold {', '.join(kinds)}")
    for key, kind in kinds.items():
        if not isinstance(header[key], kind):
            raise ZooError(f"{path}: {key} in its header is {header[key]!r}, expected {kind.__name__}")
    if header["num_classes"] < 1:
        raise ZooError(f"{path}: its header has {header['num_classes']} classes, a network needs 1 or more")
    return header


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
