"""The right answers of a parent that an earlier run has counted, used again after proof that nothing changed.

A second `zoo reprune` of the same parent, with another eps, would count them anew. The file of an earlier count is used
only where the weights, every sample and the network's first outputs are those that it was made with.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo import distributed
from zoo.cards import wilson_interval
from zoo.datasets import LabelledDataset
from zoo.errors import ZooError
from zoo.evaluate import Evaluation, batch_indices, batches, eval_mode, evaluate, model_device
from zoo.utils import new_file, read_json
from zoo.workflows.measurement import Measurement, check_input_shape

_FIRST = 8  # samples whose outputs are computed and compared: weights do not tell the code of forward()
_TOLERANCE = 0.01  # of the largest output: the number of threads changes the rounding


def measure_or_reuse(
    model: nn.Module, samples: LabelledDataset, file: Path, *, workers: int = 0, progress: bool = False
) -> tuple[Measurement, float]:
    """`measure`, or what an earlier run has measured, and the seconds that one sample took.

    file  where an earlier run with the same weights and the same kind of device keeps its answers, and this one will

    The samples are read in either case, and only the network's passes are saved. Several processes measure anew, for
    each of them sees a part of the samples alone. Raises ZooError as `measure`.
    """
    counts = check_input_shape(model, samples)
    if distributed.is_distributed():
        started = time.perf_counter()
        evaluation = evaluate(model, samples, workers=workers, progress=progress)
        return Measurement(evaluation, counts), (time.perf_counter() - started) / len(samples)
    outputs = _first_outputs(model, samples)
    earlier = _read(file, outputs)
    if earlier is not None and earlier["samples"] == _hash_of(samples, workers):
        return Measurement(_evaluation(earlier), counts), float(earlier["seconds"])
    digest = _Digest()
    started = time.perf_counter()
    evaluation = evaluate(model, samples, workers=workers, progress=progress, on_batch=digest.add)
    seconds = (time.perf_counter() - started) / len(samples)
    content = {
        "samples": digest.hexdigest(), "outputs": outputs, "seconds": seconds,
        "cross_entropy": evaluation.cross_entropy, "predictions": evaluation.predictions.tolist(),
        "hits": evaluation.hits.int().tolist(),
    }  # fmt: skip
    with new_file(file) as out:
        out.write(json.dumps(content).encode())
    return Measurement(evaluation, counts), seconds


class _Digest:
    """SHA-256 of samples in their order, however they are divided into batches."""

    def __init__(self) -> None:
        self._inputs, self._labels = hashlib.sha256(), hashlib.sha256()

    def add(self, inputs: Tensor, labels: Tensor) -> None:
        for digest, tensor in ((self._inputs, inputs), (self._labels, labels)):
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)

    def hexdigest(self) -> str:
        return self._inputs.hexdigest() + self._labels.hexdigest()


def _hash_of(samples: LabelledDataset, workers: int) -> str:
    digest = _Digest()
    for inputs, labels in batches(
        samples, batch_indices(len(samples), 64), device=torch.device("cpu"), workers=workers
    ):
        digest.add(inputs, labels)
    return digest.hexdigest()


def _first_outputs(model: nn.Module, samples: LabelledDataset) -> list[float]:
    order = batch_indices(min(_FIRST, len(samples)), _FIRST)
    with eval_mode(model), torch.inference_mode():
        (inputs, _), *_ = batches(samples, order, device=model_device(model))
        return [float(value) for value in model(inputs).float().flatten().cpu()]


def _read(file: Path, outputs: list[float]) -> Mapping[str, Any] | None:
    """The content of the file, or None where there is none, it is damaged, or the network gave other outputs then."""
    try:
        content = read_json(file)
        ours, theirs = torch.tensor(outputs), torch.tensor(content["outputs"])
        same = ours.shape == theirs.shape and bool((ours - theirs).abs().max() <= _TOLERANCE * ours.abs().max())
        _evaluation(content), str(content["samples"]), float(content["seconds"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError, ZooError):
        return None
    return content if same else None


def _evaluation(content: Mapping[str, Any]) -> Evaluation:
    hits = torch.tensor(content["hits"], dtype=torch.bool)
    predictions = torch.tensor(content["predictions"], dtype=torch.int64)
    if hits.ndim != 1 or hits.shape != predictions.shape:
        raise ValueError("a hit for each prediction was expected")
    correct, total = int(hits.sum()), len(hits)
    low, high = wilson_interval(correct, total)
    return Evaluation(correct, total, float(content["cross_entropy"]), low, high, hits, predictions)
