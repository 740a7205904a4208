"""Accuracy and cross-entropy of a classifier, with a confidence interval for the accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import distributed
from zoo.cards import wilson_interval
from zoo.errors import ZooError
from zoo.evaluate.loader import Samples, as_dataset, batch_indices, batches, model_device, num_samples
from zoo.utils import progress_bar


@dataclass(frozen=True)
class Evaluation:
    """Accuracy and cross-entropy of a classifier on `total` samples.

    `cross_entropy` is the mean over samples in nats; `low` and `high` bound the accuracy with 95 % confidence (Wilson's
    interval). `predictions` (total,) holds the predicted class of every sample, and `hits` (total,) whether it is the
    label, for paired comparisons.
    """

    correct: int
    total: int
    cross_entropy: float
    low: float
    high: float
    hits: Tensor = field(repr=False, compare=False)
    predictions: Tensor = field(repr=False, compare=False)

    @property
    def accuracy(self) -> float:
        return self.correct / self.total


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[nn.Module]:
    """A context in which every module of the model is in eval mode; each then returns to its previous mode."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in before:
            module.training = training


def evaluate(
    model: nn.Module,
    samples: Samples,
    *,
    batch_size: int = 64,
    workers: int = 0,
    progress: bool = False,
    title: str = "evaluate",
    on_batch: Callable[[Tensor, Tensor], None] | None = None,
) -> Evaluation:
    """Run the model once over every sample, on the device that the model is on.

    `samples` is a dataset of (input, label) pairs or a pair of tensors, inputs (M, ...) and labels (M,). Sums over
    samples are kept in float64, so the result does not depend on the batch size but for rounding. Several processes
    (`zoo.distributed.process_group`) call this together: each runs its shard of the samples, and all return the same
    result. `title` stands before the progress bar; `on_batch` is called with the inputs and labels of each batch.

    Raises ZooError, in all processes, for an empty data set, NaN in the data, logits that are not finite, and labels
    that the model has no output for.
    """
    dataset = as_dataset(samples)
    total = num_samples(dataset)
    if total == 0:
        raise ZooError("there is nothing to evaluate on: the data set is empty")
    distributed.check_same("the number of samples", total)
    device = model_device(model)
    entropy = torch.zeros((), dtype=torch.float64, device=device)
    local = range(total)[distributed.shard(total)]
    order = [[local[i] for i in batch] for batch in batch_indices(len(local), batch_size)]
    predictions = [torch.empty(0, dtype=torch.int64, device=device)]
    targets = [torch.empty(0, dtype=torch.int64, device=device)]
    show_bar = progress and distributed.rank() == 0
    with distributed.shared_errors(), eval_mode(model), torch.inference_mode():
        data = batches(dataset, order, device=device, workers=workers)
        for inputs, labels in progress_bar(data, title, total=len(order), show=show_bar):
            logits = model(inputs).float()
            check_logits(logits, labels)
            if on_batch is not None:
                on_batch(inputs, labels)
            entropy += F.cross_entropy(logits, labels, reduction="sum").double()
            predictions.append(logits.argmax(1))
            targets.append(labels)
    entropy = distributed.all_reduce(entropy)
    local_rows = torch.stack([torch.cat(predictions), torch.cat(targets)], 1).cpu()
    predicted, target = distributed.all_gather_rows(local_rows, total).unbind(1)
    hits = predicted == target
    correct = int(hits.sum())
    low, high = wilson_interval(correct, total)
    return Evaluation(correct, total, entropy.item() / total, low, high, hits, predicted)


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """Raise ZooError if logits (B, classes) are not finite, or if a label of labels (B,) has no logit."""
    if not torch.isfinite(logits).all():
        raise ZooError("the network's outputs are NaN or infinite: its weights are damaged, or do not fit the network")
    if int(labels.max()) >= logits.shape[1]:
        raise ZooError(
            f"the data has a label {int(labels.max())}, but the network has {logits.shape[1]} outputs: "
            "use the data set that it was trained on"
        )
