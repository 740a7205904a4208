"""Accuracy and cross-entropy of a classifier, with the uncertainty that the number of samples leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from zoo import distributed
from zoo.cards import wilson_interval
from zoo.errors import ZooError
from zoo.evaluate.loader import Samples, as_dataset, batches, consecutive, model_device, size_of


@dataclass(frozen=True)
class Evaluation:
    """What a classifier did on `total` samples.

    `cross_entropy` is the mean over samples in nats; `low` and `high` bound the accuracy with 95 % confidence
    (Wilson's interval); `hits` (total,) says sample by sample which were right, for paired comparisons.
    """

    correct: int
    total: int
    cross_entropy: float
    low: float
    high: float
    hits: Tensor = field(repr=False, compare=False)

    @property
    def accuracy(self) -> float:
        return self.correct / self.total


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """The model with every module in eval mode; afterwards each module is in the mode it was in before."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in before:
            module.training = training


def evaluate(
    model: nn.Module, samples: Samples, *, batch_size: int = 64, workers: int = 0, progress: bool = False
) -> Evaluation:
    """Run the model once over every sample, on the device that the model is on.

    `samples` is a dataset of (input, label) pairs or a pair of tensors, inputs (M, ...) and labels (M,).
    Every sample counts once, whatever the batch size; the sums are kept in float64. Several processes
    (`zoo.distributed.processes`) call this together: each runs its own part of the samples, and all get the whole result.

    Raises ZooError for an empty data set, NaN in the data, logits that are not finite, and labels that the model
    has no output for.
    """
    dataset = as_dataset(samples)
    total = size_of(dataset)
    if total == 0:
        raise ZooError("there is nothing to evaluate on: the data set is empty")
    distributed.check_same("the number of samples", total)
    device = model_device(model)
    entropy = torch.zeros((), dtype=torch.float64, device=device)
    own = range(total)[distributed.shard(total)]
    hits = [torch.empty(0, dtype=torch.bool, device=device)]
    order = [[own[i] for i in batch] for batch in consecutive(len(own), batch_size)]
    shown = progress and distributed.rank() == 0
    with eval_mode(model), torch.inference_mode():
        data = batches(dataset, order, device=device, workers=workers)
        for inputs, labels in tqdm(data, "evaluate", len(order), disable=None if shown else True, leave=False):
            logits = model(inputs).float()
            check_logits(logits, labels)
            entropy += F.cross_entropy(logits, labels, reduction="sum").double()
            hits.append(logits.argmax(1) == labels)
    entropy = distributed.all_reduce(entropy)
    right = distributed.all_gather_rows(torch.cat(hits).cpu().byte(), total).bool()
    correct = int(right.sum())
    low, high = wilson_interval(correct, total)
    return Evaluation(correct, total, entropy.item() / total, low, high, right)


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """Raise ZooError if logits (B, classes) are not finite, or too few for labels (B,)."""
    if not torch.isfinite(logits).all():
        raise ZooError("the network's outputs are NaN or infinite: its weights are damaged, or do not fit the network")
    if int(labels.max()) >= logits.shape[1]:
        raise ZooError(
            f"the data has a label {int(labels.max())}, but the network has {logits.shape[1]} outputs: "
            "use the data set that it was trained on"
        )
