"""Batches of a data set on a device.

Training, evaluation and pruning load their data through `batches`, so NaN in a sample is the same error everywhere.
"""

from __future__ import annotations

import atexit
import functools
import gc
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

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

    Raises ZooError, with its index, for a sample that holds NaN or infinity; and what the data set raises.
    """
    loader = DataLoader(
        _ErrorsAsSamples(dataset) if workers else dataset,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=_collate if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=_ignore_interrupts,
        generator=torch.Generator(),  # the loader draws a seed when it starts: not from the global generator
    )
    if workers:
        _collect_at_exit()
    iterator = zip(order, loader, strict=True)
    try:
        for indices, batch in iterator:
            if isinstance(batch, ZooError):
                raise batch
            inputs, labels = batch
            finite = torch.isfinite(inputs).flatten(1).all(1)
            if not finite.all():
                first = indices[int(finite.logical_not().nonzero()[0])]
                raise ZooError(f"sample {first} of the data holds NaN or infinite values: fix or remove it")
            yield inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True)
    finally:
        del iterator  # an error's traceback would keep it, and its workers, alive


@functools.cache
def _collect_at_exit() -> None:
    """Let no loader outlive the program, of which an error may have left a reference in a cycle.

    Python waits for the workers when it ends. They are told to end when their loader is deleted, and by nothing else.
    """
    atexit.register(gc.collect)


class _ErrorsAsSamples(Dataset[Any]):
    """A data set that gives a ZooError as a sample: raised in a worker, it would arrive as text with a traceback."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except ZooError as error:
            return error


def _collate(samples: list[Any]) -> Any:
    """The samples as a batch; of those with an error, the first error."""
    return next((sample for sample in samples if isinstance(sample, ZooError)), None) or default_collate(samples)


def _ignore_interrupts(worker: int) -> None:
    # Ctrl-C reaches every process of the terminal, and torchrun's SIGTERM every process of a group. The main process
    # alone decides when loading ends; a worker whose main process is gone ends by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
