"""Weights in half precision, where that changes no decision.

Matrices and kernels are nearly all of a checkpoint. Rounded to float16 (Micikevicius et al. 2018, Mixed Precision
Training, section 3.1, say what it can hold) they take half the room; the network still computes in float32. Batch-norm
statistics, gains and biases stay as they are: they are few, and an error in them moves a whole channel.

Where rounding all of them would change a decision, the largest are rounded and the smallest stay as they are; bisection
finds how many may be, with no decision changed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from zoo.checkpoint import large_weights
from zoo.errors import ZooError
from zoo.evaluate import Samples, as_dataset, batches, check_logits, consecutive, eval_mode, model_device, size_of

PART = 0.1  # of the training split, to decide on where nothing is held out for choices
LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Halved:
    """What came of it: which weights have the numbers of a float16 now, and which are as they were.

    Rounding all that float16 can hold would change `changed` of `total` decisions; with the weights of `float16` none
    changes. `too_large` names a weight with a number beyond float16.
    """

    changed: int
    total: int
    float16: tuple[str, ...] = ()
    float32: tuple[str, ...] = ()
    too_large: str | None = None

    def sentence(self) -> str:
        why = []
        if self.too_large is not None:
            why += [f"{self.too_large} holds a number beyond {LARGEST:g}, the largest of float16"]
        if self.changed:
            why += [f"float16 would change {self.changed} of {self.total} decisions"]
        if not self.float16:
            return f"float32 weights: {', and '.join(why) or 'there is no matrix and no kernel'}"
        same = f"all {self.total} decisions are the same"
        if not self.float32:
            return f"float16 weights: {same}"
        some = f"{len(self.float16)} of {len(self.float16) + len(self.float32)}"
        return f"float16 in {some} weights: {same} (float32 in the others: {', and '.join(why)})"


def halve(
    model: nn.Module, samples: Samples, *, batch_size: int = 64, workers: int = 0, progress: bool = False
) -> Halved:
    """Round the model's weights of 2 or more dimensions, in place, to numbers that float16 has.

    `samples` is a dataset of (input, label) pairs or a pair of tensors, inputs (M, ...) and labels (M,): a validation
    part, for this is a choice. The class that the model names stays the same for all of them. If it would change for
    any, only the k largest weights are rounded, k the largest that bisection finds; a weight with a number beyond
    float16 stays as it was.

    Raises ZooError for an empty data set, NaN in the data, and outputs that are not finite.
    """
    weights = large_weights(model)
    kept = {name: weight.detach().clone() for name, weight in weights.items()}
    rounded = {name: weight.half().to(weight.dtype) for name, weight in kept.items()}
    beyond = [name for name in weights if not rounded[name].isfinite().all()]
    # Layers that share a weight have it under two names; together they are rounded, or not. Of equal size the first in
    # the network comes first.
    first: dict[int, int] = {}
    place = {name: first.setdefault(id(weight), at) for at, (name, weight) in enumerate(weights.items())}
    order = sorted(rounded.keys() - set(beyond), key=lambda name: (-weights[name].numel(), place[name], name))
    ends = [k for k in range(len(order), 0, -1) if k == len(order) or weights[order[k]] is not weights[order[k - 1]]]
    ends += [0]

    def decided(what: str) -> Tensor:
        return decisions(model, samples, batch_size=batch_size, workers=workers, progress=what if progress else None)

    before, done = decided("as trained"), 0

    def change(k: int) -> int:
        _put(weights, {**kept, **{name: rounded[name] for name in order[:k]}})
        try:
            return int((decided(f"float16 in {k} of {len(weights)} weights") != before).sum())
        except ZooError:  # a norm that rounds to 0 makes every output NaN
            return len(before)

    try:
        changed = change(len(order)) if order else 0
        unchanged = bisect_left(ends, True, 1, len(ends) - 1, key=lambda k: change(k) == 0) if changed else 0
        done = ends[unchanged]
    finally:
        _put(weights, {**kept, **{name: rounded[name] for name in order[:done]}})
    halves = set(order[:done])
    return Halved(
        changed, len(before), tuple(name for name in weights if name in halves),
        tuple(name for name in weights if name not in halves), beyond[0] if beyond else None,
    )  # fmt: skip


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
