"""The zoo's checkpoints: one safetensors file whose header describes the network that its tensors belong to.

The header's metadata has one key, ``zoo``, with a JSON object of arch, num_classes, options and widths, and, in a
converted file whose maker said it (`zoo.convert`), the data set that the weights were trained on. A single key,
because the order of several is not defined, and the same network must give the same file. Large weights may be float16
in the file (`zoo.half_precision`); they are float32 again in the network that is built from it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from zoo import models
from zoo.cards import MAX_CLASSES, Card
from zoo.checkpoint.state_dict import check_finite, check_fit, large_weights, open_safetensors, tensors_of
from zoo.distributed import device_of
from zoo.errors import ZooError, excerpt, first_line
from zoo.utils import convert_command, new_file

_LOG = logging.getLogger("zoo")
_FEW_CLASSES, _FEW_BYTES = 10_000, 1 << 30  # below which the size of the dense network needs no thought
_KEY = "zoo"


def save(
    model: nn.Module, path: str | Path, *, arch: str, num_classes: int, options: Mapping[str, Any],
    dataset: str | None = None,
) -> tuple[int, str]:  # fmt: skip
    """Write the model to one file and return its size in bytes and its SHA-256.

    The file appears under ``path`` complete or not at all, also when the process is killed. The header takes the widths
    from ``model.widths``. The same weights give the same bytes.

    Raises ZooError if the file cannot be written; ``path`` is then as it was before.
    """
    data = pack(model, arch=arch, num_classes=num_classes, options=options, dataset=dataset)
    with new_file(Path(path)) as out:
        out.write(data)
    return len(data), hashlib.sha256(data).hexdigest()


def pack(
    model: nn.Module, *, arch: str, num_classes: int, options: Mapping[str, Any], float16: Collection[str] = (),
    dataset: str | None = None,
) -> bytes:  # fmt: skip
    """The bytes that `save` writes, with the weights named in `float16` stored in that type.

    Raises ZooError for a model without ``widths``, a name in `float16` that is no matrix or kernel of the model, and a
    weight that float16 cannot hold exactly (`zoo.half_precision.round_to_float16` rounds).
    """
    widths = getattr(model, "widths", None)
    if not isinstance(widths, Mapping):
        raise ZooError(f"{type(model).__name__} cannot be saved: it has no `widths` (group name -> neurons)")
    header = {"arch": arch, "num_classes": num_classes, "options": dict(options), "widths": dict(widths)}
    header |= {"dataset": dataset} if dataset else {}
    # Clones: safetensors refuses tensors that share memory or have gaps, and both are fine in a model.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    large = large_weights(model)
    for name in float16:
        if name not in large:
            raise ZooError(f"{type(model).__name__} has no matrix or kernel {name!r} to store in half precision")
        tensors[name] = _exact_float16(name, tensors[name])
    return to_bytes(tensors, {_KEY: json.dumps(header, sort_keys=True)})


def load(
    path: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None,
    num_classes: int | None = None, new_head: bool = False, card: Card | None = None,
) -> nn.Module:  # fmt: skip
    """Build the network that the file's header describes, load its weights strictly, return it in eval mode.

    dtype        type of the weights; float32 by default, whatever the file has
    num_classes  with another number than the file's, the tensors that depend on it keep their random initial values,
                 and a warning names them
    new_head     whether they do so with the same number too: for other classes
    card         a card that must describe the same network as the header

    The names of the classes are the network's attribute ``classes``: the card's, or ImageNet's; None if unknown.

    Raises ZooError for a missing file, a file that is no checkpoint of the zoo, a header that describes no network or
    another one than the card, weights that do not fit it (with the first tensor and both shapes) or are not finite, and
    a device that is not there.
    """
    path, target = Path(path), device_of(device)
    if num_classes is not None and (type(num_classes) is not int or not 1 <= num_classes <= MAX_CLASSES):
        raise ZooError(f"num_classes is {num_classes!r}: give a whole number from 1 to {MAX_CLASSES}")
    with open_safetensors(path) as file:
        header = _header(path, file.metadata())
        if card is not None:
            _check_card(path, header, card)
        state = tensors_of(path, file)

    def build(classes: int) -> nn.Module:
        try:
            return models.build(header["arch"], num_classes=classes, widths=header["widths"], **header["options"])
        except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            reason = excerpt(first_line(error), str)
            raise ZooError(f"{path}: its header describes no network that can be built: {reason}") from error

    # A false header costs no memory: the weights are compared before anything is allocated.
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on layers without inputs, which are refused
        skeleton = build(header["num_classes"])
    if empty := [name for name, parameter in skeleton.named_parameters() if not parameter.numel()]:
        raise ZooError(f"{path}: its header describes a network in which {empty[0]} has no numbers")
    check_fit(skeleton, state, source=str(path))
    check_finite(state, source=str(path), dtype=dtype or torch.float32)
    check_dense_size(header["arch"], header["num_classes"], header["options"], state, source=str(path))
    classes = num_classes or header["num_classes"]
    new_head = new_head or classes != header["num_classes"]
    # Loading leaves the global random state alone, except that a new head draws its initial values from it.
    with torch.device("cpu"), torch.random.fork_rng(devices=[], enabled=not new_head):
        model = build(classes)
    with torch.device("meta"):
        new = _head(skeleton, build(header["num_classes"] + 1)) if new_head else []
    model.load_state_dict({name: tensor for name, tensor in state.items() if name not in new}, strict=False)
    if new:
        _LOG.warning(
            "%s was made for %d%s classes: %s start anew for %d and have to be trained",
            path.name, header["num_classes"], " other" * (classes == header["num_classes"]), ", ".join(new), classes,
        )  # fmt: skip
    model.classes = None if card is None or new else _class_names(card)  # type: ignore[assignment]  # no tensor
    return model.to(device=target, dtype=dtype or torch.float32).eval()


def _head(model: nn.Module, other: nn.Module) -> list[str]:
    """The names of the tensors whose shape depends on the number of classes, in which two networks differ."""
    shapes = {name: tensor.shape for name, tensor in other.state_dict().items()}
    return sorted(name for name, tensor in model.state_dict().items() if tensor.shape != shapes[name])


def _class_names(card: Card) -> tuple[str, ...] | None:
    """The names on a card, or those that torchvision has for the 1000 classes of ImageNet."""
    if card.class_names is None and (card.dataset, card.num_classes) == ("imagenet", 1000):
        from torchvision.models import ResNet34_Weights  # imported here because that takes seconds

        return tuple(ResNet34_Weights.IMAGENET1K_V1.meta["categories"])
    return card.class_names


def check_dense_size(
    arch: str, num_classes: int, options: Mapping[str, Any], state: Mapping[str, Tensor], *, source: str
) -> None:
    """Raise ZooError where the dense network, which some networks are cut from, is far larger than the weights."""
    if num_classes <= _FEW_CLASSES:
        return
    with torch.device("meta"):
        dense = models.build(arch, num_classes=num_classes, **options)
    size = sum(parameter.numel() * parameter.itemsize for parameter in dense.parameters())
    if size > _FEW_BYTES + 4 * sum(tensor.numel() * tensor.itemsize for tensor in state.values()):
        raise ZooError(f"{source} has {num_classes} classes: to build {arch} for so many takes {size} bytes")


def read_header(path: Path) -> dict[str, Any]:
    """arch, num_classes, options and widths of a checkpoint, and its data set if it says one. Raises as `load`."""
    with open_safetensors(path) as file:
        return _header(path, file.metadata())


def _exact_float16(name: str, tensor: Tensor) -> Tensor:
    """The tensor as float16, if that changes none of its numbers."""
    as_half = tensor.half()
    if not torch.equal(as_half.to(tensor.dtype), tensor):
        raise ZooError(
            f"{name} holds numbers that float16 does not have: "
            "round them first with zoo.half_precision.round_to_float16"
        )
    return as_half


def _check_card(path: Path, header: Mapping[str, Any], card: Card) -> None:
    """Raise ZooError unless a card and the header of its checkpoint describe the same network."""
    for key, in_file in header.items():
        on_card = getattr(card, key)
        if json.dumps(in_file, sort_keys=True) != json.dumps(on_card, sort_keys=True):  # a tuple equals a list
            raise ZooError(
                f"the card of {card.name} and its checkpoint {path} contradict each other: {key} is "
                f"{excerpt(on_card)} on the card and {excerpt(in_file)} in the file's header"
            )


def _header(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """arch, num_classes, options and widths of a checkpoint, from the metadata of its file."""
    try:
        header = json.loads((metadata or {})[_KEY])
    except (KeyError, ValueError, RecursionError) as error:
        raise ZooError(
            f"{path} holds tensors but does not say which network they belong to: {convert_command(path)} makes "
            "a checkpoint of them"
        ) from error
    kinds = {"arch": str, "num_classes": int, "options": dict, "widths": dict}
    if not isinstance(header, dict) or header.keys() - {"dataset"} != kinds.keys():
        raise ZooError(f"{path}: its header must hold {', '.join(kinds)}")
    kinds |= {"dataset": str} if "dataset" in header else {}
    for key, kind in kinds.items():
        if not isinstance(header[key], kind):
            raise ZooError(f"{path}: {key} in its header is {excerpt(header[key])}, expected {kind.__name__}")
    if header["num_classes"] < 1:
        raise ZooError(f"{path}: its header has {excerpt(header['num_classes'])} classes, a network needs 1 or more")
    return header
