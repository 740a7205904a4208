"""Batches of a data set on a device.

Training, evaluation and pruning load their data through `batches`, so NaN in a sample is the same error everywhere.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset

from zoo.errors import ZooError

Samples = Dataset[Any] | tuple[Tensor, Tensor]


def as_dataset(samples: Samples) -> Dataset[Any]:
    """A dataset of (input, label) pairs, from one or from a pair of tensors, inputs (M, ...) and labels (M,)."""
    if not isinstance(samples, tuple):
        return samples
    inputs, labels = samples
    if len(inputs) != len(labels):
        raise ZooError(f"{len(inputs)} inputs came with {len(labels)} labels: give one label for every input")
    return TensorDataset(inputs, labels)


def num_samples(dataset: Dataset[Any]) -> int:
    """The number of samples."""
    return len(dataset)  # type: ignore[arg-type]  # a map-style Dataset has a length, its base class does not say so


def model_device(model: torch.nn.Module) -> torch.device:
    """The device of the model's parameters; the CPU for a model without parameters."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def batch_indices(total: int, batch_size: int) -> list[list[int]]:
    """The indices 0, ..., total - 1 in batches of `batch_size`; the last one may be smaller.

    Raises ZooError for a batch size below 1.
    """
    if batch_size < 1:
        raise ZooError(f"a batch of {batch_size} is not possible: the batch size is 1 or more")
    return [list(range(start, min(start + batch_size, total))) for start in range(0, total, batch_size)]


def batches(
    dataset: Dataset[Any], order: Sequence[list[int]], *, device: torch.device, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs (B, ...) and labels (B,) on the device for every list of sample indices in `order`.

    Raises ZooError, with its index, for a sample that holds NaN or infinity.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_ignore_interrupts,
        generator=torch.Generator(),  # the loader draws a seed when it starts: not from the global generator
    )
    for indices, (inputs, labels) in zip(order, loader, strict=True):
        finite = torch.isfinite(inputs).flatten(1).all(1)
        if not finite.all():
            first = indices[int(finite.logical_not().nonzero()[0])]
            raise ZooError(f"sample {first} of the data holds NaN or infinite values: fix or remove it")
        yield inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _ignore_interrupts(worker: int) -> None:
    # Ctrl-C reaches every process of the terminal, and torchrun's SIGTERM every process of a group. The main process
    # alone decides when loading ends; a worker whose main process is gone ends by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
