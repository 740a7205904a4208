"""What is measured of a network for its card: right answers, cost, forward time beside its parent."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from zoo.cards import Forward
from zoo.datasets import LabelledDataset
from zoo.errors import ZooError
from zoo.evaluate import Counts, Evaluation, Times, count, device_name, evaluate, forward_times


@dataclass(frozen=True)
class Measurement:
    """The answers of a network on samples that it was not trained on, and its cost for one sample."""

    evaluation: Evaluation
    counts: Counts


def measure(model: nn.Module, samples: LabelledDataset, *, workers: int = 0, progress: bool = False) -> Measurement:
    """Count the parameters, the MACs and the right answers of a network. Raises ZooError as `check_input_shape`."""
    counts = check_input_shape(model, samples)
    return Measurement(evaluate(model, samples, workers=workers, progress=progress), counts)


def check_input_shape(model: nn.Module, samples: LabelledDataset) -> Counts:
    """The cost of the network for one sample; ZooError if a sample does not fit the network.

    One forward pass: quick enough to come before anything slow.
    """
    try:
        return count(model, samples.sample_shape)
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except RuntimeError as error:  # of torch, from some layer of the network
        shape = " x ".join(map(str, samples.sample_shape))
        raise ZooError(
            f"samples of {shape} do not fit this network ({str(error).splitlines()[0]}): "
            "use a data set of the kind that it is for"
        ) from error


def time_beside(parent: nn.Module, model: nn.Module, samples: LabelledDataset, device: torch.device) -> Forward:
    """The forward time of a network on real samples, as its card records it, its parent timed in the same run."""
    cuda = device.type == "cuda"
    batch = min(32 if cuda else 8, len(samples))
    x = torch.stack([samples[i][0] for i in range(batch)]).to(device)
    times = forward_times({"parent": parent, "model": model}, x, repeats=50 if cuda else 20, warmup=10 if cuda else 3)
    return forward_record(times["model"], device, batch=batch, dtype="float32", mode="eager")


def forward_record(
    times: Times, device: torch.device, *, batch: int, dtype: str, mode: str, parent: bool = True
) -> Forward:
    """The record of a card for times in seconds: milliseconds only of a GPU, ratios only beside a parent."""
    cuda = device.type == "cuda"
    record = Forward(
        device=f"cuda: {device_name(device)}" if cuda else "cpu",
        torch=torch.__version__,
        batch=batch,
        dtype=dtype,
        mode=mode,
        ratio=round(times.speedup, 4),
        ratio_low=round(times.speedup_low, 4),
        ratio_high=round(times.speedup_high, 4),
        median_ms=round(times.median * 1000, 4) if cuda else None,
        p95_ms=round(times.p95 * 1000, 4) if cuda else None,
    )
    return record if parent else replace(record, ratio=None, ratio_low=None, ratio_high=None)
