"""Weights in half precision, where that changes no decision.

Matrices and kernels are nearly all of a checkpoint. Rounded to float16 (Micikevicius et al. 2018, Mixed Precision
Training, section 3.1, say what it can hold) they take half the room; the network still computes in float32. Batch-norm
statistics, gains and biases stay as they are: they are few, and an error in them moves a whole channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from tqdm import tqdm

from zoo.batches import Samples, as_dataset, batches, consecutive, model_device, size_of
from zoo.checkpoint import large_weights
from zoo.errors import ZooError
from zoo.evaluate import check_logits, eval_mode

if TYPE_CHECKING:
    from zoo.datasets.base import LabelledDataset
    from zoo.entry import Data

PART = 0.1  # of the training split, to decide on where nothing is held out for choices
LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Halved:
    """What came of it: `changed` of `total` decisions would be others; `too_large` names a weight beyond float16."""

    changed: int
    total: int
    too_large: str | None = None

    @property
    def done(self) -> bool:
        return self.changed == 0 and self.too_large is None

    def sentence(self) -> str:
        if self.too_large is not None:
            return f"float32 weights: {self.too_large} holds a number beyond {LARGEST:g}, the largest of float16"
        if self.changed:
            return f"float32 weights: float16 would change {self.changed} of {self.total} decisions"
        return f"float16 weights: all {self.total} decisions are the same"


def halve(
    model: nn.Module, samples: Samples, *, batch_size: int = 64, workers: int = 0, progress: bool = False
) -> Halved:
    """Round the model's weights of 2 or more dimensions, in place, to numbers that float16 has.

    `samples` is a dataset of (input, label) pairs or a pair of tensors, inputs (M, ...) and labels (M,): a validation
    part, for this is a choice. If the class that the model names changes for any of them, or a weight is too large for
    float16, the model stays as it was.

    Raises ZooError for an empty data set, NaN in the data, and outputs that are not finite.
    """
    weights = large_weights(model)
    rounded = {name: weight.detach().half().to(weight.dtype) for name, weight in weights.items()}
    total = size_of(as_dataset(samples))
    for name, values in rounded.items():
        if not torch.equal(values.isfinite(), weights[name].isfinite()):
            return Halved(0, total, name)

    def decided(what: str) -> Tensor:
        return decisions(model, samples, batch_size=batch_size, workers=workers, progress=what if progress else None)

    before = decided("as trained")
    kept = {name: weight.detach().clone() for name, weight in weights.items()}
    changed = total
    try:
        _put(weights, rounded)
        changed = int((decided("in half precision") != before).sum())
    finally:
        if changed:
            _put(weights, kept)
    return Halved(changed, total)


def held_for_halving(data: Data) -> LabelledDataset:
    """The part of the training split that is held out for choices; `PART` of it where none is.

    Raises ZooError where the split is too small for that.
    """
    return replace(data, validation=data.validation or PART).load("test")


def decisions(
    model: nn.Module, samples: Samples, *, batch_size: int = 64, workers: int = 0, progress: str | None = None
) -> Tensor:
    """The class (M,) that the model names for every sample, on the CPU; `progress` is the title of a bar."""
    dataset = as_dataset(samples)
    total = size_of(dataset)
    if total == 0:
        raise ZooError("there is nothing to decide on: the data set is empty")
    found, order = [], consecutive(total, batch_size)
    with eval_mode(model), torch.inference_mode():
        data = batches(dataset, order, device=model_device(model), workers=workers)
        for inputs, labels in tqdm(data, progress, len(order), disable=None if progress else True, leave=False):
            logits = model(inputs).float()
            check_logits(logits, labels)
            found.append(logits.argmax(1).cpu())
    return torch.cat(found)


def _put(weights: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(values[name])
