"""What `prune` takes as samples, checked: tensors or arrays, a DataLoader, or any other iterable of batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from zoo.errors import ZooError, first_line
from zoo.evaluate import eval_mode

Array: TypeAlias = "Tensor | np.ndarray"
# Inputs (M, ...) with labels (M,) or None; inputs alone; or batches of either.
Data: TypeAlias = "tuple[Array, Array | None] | Array | Iterable[object]"

_EXPECTED = "inputs, or (inputs, labels), as tensors or numpy arrays"


def checked_samples(model: nn.Module, data: Data) -> tuple[Tensor, Tensor | None]:
    """Inputs (M, ...) and class labels (M,) int64, or None where there are none, on the model's device.

    Labels of a floating type are no classes: they are left out.

    Raises ZooError for what is no such data, for no samples, an empty batch, NaN or infinite inputs, samples that the
    network cannot take, and labels that do not match the samples or have no output.
    """
    inputs, labels = _gathered(data)
    weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
    if weight is not None:
        inputs = inputs.to(weight.device)
        if {inputs.dtype, weight.dtype} == {torch.float32, torch.float64}:  # numpy's default and torch's
            inputs = inputs.to(weight.dtype)
    if labels is not None and labels.is_floating_point():
        labels = None
    if not bool(torch.isfinite(inputs).all()):
        bad = int(torch.isfinite(inputs).flatten(1).all(1).logical_not().nonzero()[0])
        raise ZooError(f"Pruning sample {bad} holds NaN or infinite values: fix or remove it.")
    logits = _logits_of_first(model, inputs)
    if labels is None:
        return inputs, None
    labels = labels.to(inputs.device, torch.int64)
    if labels.ndim == 2 and labels.shape[1] == 1:  # as HDF5 files have them
        labels = labels[:, 0]
    if len(labels) != len(inputs):
        raise ZooError(f"{len(inputs)} pruning samples came with {len(labels)} labels: give one label for each.")
    if labels.ndim != 1:
        raise ZooError(f"The labels have the shape {tuple(labels.shape)}: give one class index for each sample, (M,).")
    if logits.ndim == 2:
        classes = logits.shape[1]
        wrong = ((labels < 0) | (labels >= classes)).nonzero()
        if len(wrong):
            index = int(wrong[0])
            raise ZooError(
                f"Pruning sample {index} has the label {int(labels[index])}, but the network has {classes} outputs: "
                f"labels are 0 to {classes - 1}, or None to prune without them."
            )
    return inputs, labels


def _gathered(data: Data) -> tuple[Tensor, Tensor | None]:
    """All inputs and all labels, whatever they come as; at least one sample."""
    if isinstance(data, Tensor | np.ndarray):
        inputs, labels = _tensor(data), None
    elif _is_pair(data):
        first, second = data
        inputs, labels = _tensor(first), None if second is None else _tensor(second)
    elif isinstance(data, Iterable) and not isinstance(data, Mapping | str):
        inputs, labels = _joined(data)
    else:
        raise ZooError(f"Pruning samples are {_EXPECTED}, a DataLoader or other batches of them; got {_kind(data)}.")
    if inputs.ndim == 0 or len(inputs) == 0:
        raise ZooError("There are no pruning samples: give at least one, and for good choices a hundred.")
    return inputs, labels


def _is_pair(data: object) -> TypeGuard[tuple[Array, Array | None]]:
    """Whether it is (inputs, labels), and not a list of two batches."""
    if not isinstance(data, tuple | list) or len(data) != 2 or not isinstance(data[0], Tensor | np.ndarray):
        return False
    inputs, labels = data
    if labels is None or (isinstance(data, tuple) and isinstance(labels, Tensor | np.ndarray)):
        return True
    return isinstance(labels, Tensor | np.ndarray) and labels.ndim == 1 < inputs.ndim


def _joined(batches: Iterable[object]) -> tuple[Tensor, Tensor | None]:
    parts = [_batch(index, batch) for index, batch in enumerate(batches)]
    if not parts:
        return torch.empty(0), None
    shapes = sorted({tuple(x.shape[1:]) for x, _ in parts})
    if len(shapes) > 1:
        raise ZooError(f"The batches hold samples of the shapes {shapes[0]} and {shapes[1]}: give one shape alone.")
    labels = [y for _, y in parts if y is not None]
    if labels and len(labels) < len(parts):
        raise ZooError(f"{len(labels)} of {len(parts)} batches have labels: give them with all batches or with none.")
    return torch.cat([x for x, _ in parts]), torch.cat(labels) if labels else None


def _batch(index: int, batch: object) -> tuple[Tensor, Tensor | None]:
    if isinstance(batch, Tensor | np.ndarray):
        batch = (batch, None)
    if isinstance(batch, Mapping):
        names = ", ".join(map(repr, batch))
        raise ZooError(
            f"Batch {index} is a dict with {names}: give pairs, as ((b[{names.split(', ')[0]}], b['label']) for b in "
            f"loader)."
        )
    inputs, labels = [*batch, None][:2] if isinstance(batch, tuple | list) and 0 < len(batch) <= 2 else (None, None)
    if not isinstance(inputs, Tensor | np.ndarray) or not isinstance(labels, Tensor | np.ndarray | None):
        raise ZooError(f"Batch {index} is {_kind(batch)}: a batch is {_EXPECTED}.")
    x, y = _tensor(inputs), None if labels is None else _tensor(labels)
    if x.ndim == 0 or len(x) == 0:
        raise ZooError(f"Batch {index} of the pruning samples is empty: leave it out.")
    if y is not None and (y.ndim == 0 or len(y) != len(x)):
        raise ZooError(f"Batch {index} has {len(x)} samples and {y.numel()} labels: give one label for each.")
    return x, y


def _tensor(array: Array) -> Tensor:
    if isinstance(array, Tensor):
        return array
    if array.dtype.kind not in "fiub":
        raise ZooError(f"An array of {array.dtype} holds no samples or labels: give numbers.")
    return torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))


def _kind(value: object) -> str:
    size = f" of {len(value)}" if isinstance(value, tuple | list) else ""
    return f"a {type(value).__name__}{size}"


def _logits_of_first(model: nn.Module, inputs: Tensor) -> Tensor:
    """The network's outputs for the first sample."""
    try:
        with eval_mode(model), torch.no_grad():
            logits = model(inputs[:1])
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:  # of torch, from some layer of the network
        form = f"{' x '.join(map(str, inputs.shape[1:])) or 'one number'}, {str(inputs.dtype)[6:]}"
        raise ZooError(f"The network does not take the pruning samples ({form}): {first_line(error)}") from error
    if not isinstance(logits, Tensor):
        raise ZooError(f"The network gives {_kind(logits)}: pruning compares logits, one tensor (B, classes).")
    return logits
