"""Weights stored in half precision, as far as that changes no prediction.

Matrices and kernels are nearly all of a checkpoint. Rounded to float16 (Micikevicius et al. 2018, Mixed Precision
Training, section 3.1) they take half of the space; the network still computes in float32. Batch-norm statistics, gains
and biases stay float32: they are few, and an error in one of them shifts a whole channel.

Where rounding all weights would change a prediction, the k largest are rounded, with k from a bisection.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.checkpoint import large_weights
from zoo.errors import ZooError
from zoo.evaluate import Samples, evaluate

HELD_OUT = 0.1  # fraction of the training split that decides, where no validation part is held out
MAX_FLOAT16 = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class HalfPrecisionResult:
    """Which weights were rounded to float16, and which stay float32.

    Rounding every weight that float16 can hold would change `changed` of `total` predictions; rounding the weights in
    `float16` changes none. `too_large` names a weight with a number beyond the range of float16.
    """

    changed: int
    total: int
    float16: tuple[str, ...] = ()
    float32: tuple[str, ...] = ()
    too_large: str | None = None

    def sentence(self) -> str:
        """The result and its reason, for users."""
        why = []
        if self.too_large is not None:
            why += [f"{self.too_large} holds a number beyond {MAX_FLOAT16:g}, the largest of float16"]
        if self.changed:
            why += [f"float16 would change {self.changed} of {self.total} decisions"]
        if not self.float16:
            return f"float32 weights: {', and '.join(why) or 'there is no matrix and no kernel'}"
        same = f"all {self.total} decisions are the same"
        if not self.float32:
            return f"float16 weights: {same}"
        some = f"{len(self.float16)} of {len(self.float16) + len(self.float32)}"
        return f"float16 in {some} weights: {same} (float32 in the others: {', and '.join(why)})"


def round_to_float16(
    model: nn.Module, samples: Samples, *, batch_size: int = 64, workers: int = 0, progress: bool = False
) -> HalfPrecisionResult:
    """Round the model's weights of 2 or more dimensions, in place, to numbers that float16 has.

    `samples` is a dataset of (input, label) pairs or a pair of tensors, inputs (M, ...) and labels (M,). It should be a
    validation part, because the result depends on it: the predicted class of every sample stays the same. If rounding
    all weights would change any, only the k largest are rounded, where k is the largest that a bisection finds. A
    weight with a number beyond the range of float16 is left alone.

    Raises ZooError for an empty data set, NaN in the data, and outputs that are not finite.
    """
    weights = large_weights(model)
    original = {name: weight.detach().clone() for name, weight in weights.items()}
    rounded = {name: weight.half().to(weight.dtype) for name, weight in original.items()}
    too_large = [name for name in weights if not rounded[name].isfinite().all()]
    order = _largest_first({name: weight for name, weight in weights.items() if name not in too_large})

    def predictions(title: str) -> Tensor:
        result = evaluate(model, samples, batch_size=batch_size, workers=workers, progress=progress, title=title)
        return result.predictions

    def round_first(k: int) -> None:
        _assign(weights, {**original, **{name: rounded[name] for name in order[:k]}})

    def changed_by(k: int) -> int:
        round_first(k)
        try:
            return int((predictions(f"float16 in {k} of {len(weights)} weights") != before).sum())
        except ZooError:  # a norm that rounds to 0 makes every output NaN
            return len(before)

    before, done = predictions("as trained"), 0
    try:
        changed = changed_by(len(order)) if order else 0
        ends = _possible_counts(order, weights)
        index = bisect_left(ends, True, 1, len(ends) - 1, key=lambda k: changed_by(k) == 0) if changed else 0
        done = ends[index]
    finally:
        round_first(done)
    float16 = set(order[:done])
    return HalfPrecisionResult(
        changed, len(before), tuple(name for name in weights if name in float16),
        tuple(name for name in weights if name not in float16), too_large[0] if too_large else None,
    )  # fmt: skip


def _largest_first(weights: Mapping[str, nn.Parameter]) -> list[str]:
    """The names by size, the largest first; of equal size in the order of the network.

    The names of one shared parameter stand next to each other.
    """
    first: dict[int, int] = {}
    position = {name: first.setdefault(id(weight), i) for i, (name, weight) in enumerate(weights.items())}
    return sorted(weights, key=lambda name: (-weights[name].numel(), position[name], name))


def _possible_counts(order: list[str], weights: Mapping[str, nn.Parameter]) -> list[int]:
    """How many of the first names can be rounded, from all to none: a shared parameter is rounded as a whole."""
    counts: Iterable[int] = range(len(order) - 1, 0, -1)
    return [len(order), *(k for k in counts if weights[order[k]] is not weights[order[k - 1]]), 0]


def _assign(weights: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(values[name])
