"""The Fisher information at a reader's output: what an error there does at the network's output.

A small change d of a reader's output at one position raises the divergence of the class probabilities by d' F d / 2,
where F is the Fisher information, the second moment E[g g'] of the gradient g of the loss there. Gamma (O, O) is F
summed over the positions of a sample and averaged over samples. With W' Gamma W in place of W' W, the local discrepancy
(Ye et al. 2020, section 2.1) is in the unit of the global one, nats per sample, up to interactions between positions.
No labels are needed: they are drawn from the network's own class probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo import distributed
from zoo.errors import ZooError
from zoo.models import CustomReader, NeuronGroup, Reader


def fisher_matrices(
    model: nn.Module,
    groups: Sequence[NeuronGroup],
    batches: Iterable[Tensor],
    generator: torch.Generator,
    *,
    kind: str = "cross_entropy",
    labels: Iterable[Tensor] | None = None,
    label_weight: float = 0.0,
) -> dict[str, list[Tensor]]:
    """Group name -> Gamma (O, O), float64, of each of its readers, from one pass over the batches.

    batches       inputs, tensors (b, ...)
    generator     draws the labels
    kind          the discrepancy at the network's output (`zoo.prune.engine.discrepancy`)
    labels        the true classes (b,) of each batch; needed for label_weight above 0
    label_weight  the fraction of Gamma that comes from the gradients of the cross-entropy with the true labels, which
                  favours directions that tell the true class from others (after Zhuang et al. 2018,
                  Discrimination-aware Channel Pruning)
    """
    if label_weight and labels is None:
        raise ZooError("`label_weight` needs the labels of the pruning samples.")
    readers = {id(reader.module): reader for group in groups for reader in group.readers}
    samples = 0
    true_labels = iter(labels) if labels is not None else None
    with _GradientMoments(list(readers.values())) as moments:
        for batch in batches:
            samples += len(batch)
            shard = distributed.shard(len(batch))
            local = batch[shard]
            with torch.enable_grad():
                # A process with an empty shard runs one sample all the same, and its gradients are 0.
                logits = model(local if len(local) else batch[:1])[: len(local)]
                if label_weight < 1:
                    moments.weight = 1 - label_weight
                    loss = _sampled_loss(kind, logits, len(batch), generator)
                    loss.backward(retain_graph=bool(label_weight))  # type: ignore[no-untyped-call]
                if label_weight and true_labels is not None:
                    moments.weight = label_weight
                    loss = F.cross_entropy(logits, next(true_labels)[shard], reduction="sum")
                    loss.backward()  # type: ignore[no-untyped-call]
    total = {key: distributed.all_reduce(gamma) for key, gamma in moments.total.items()}
    return {group.name: [total[id(r.module)] / max(samples, 1) for r in group.readers] for group in groups}


class _GradientMoments(ExitStack):
    """A context manager in which every backward pass adds weight g g' to the total of each reader, for the gradient g
    (O,) at each position of its output.

    total   id of the reader's module -> (O, O) float64
    weight  factor of the next backward pass
    """

    def __init__(self, readers: Sequence[Reader]) -> None:
        super().__init__()
        self.weight = 1.0
        self.total: dict[int, Tensor] = {}
        for reader in readers:
            outputs = len(reader.weight)
            self.total[id(reader.module)] = reader.weight.new_zeros(outputs, outputs, dtype=torch.float64)
            hook = partial(self._observe, reader)
            self.callback(reader.module.register_forward_hook(hook).remove)

    def _observe(self, reader: Reader, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        # Weights take no gradients, so the graph begins at the first reader; cloned, as the output may be changed in
        # place.
        if not output.requires_grad:
            output = output.detach().requires_grad_().clone()
        value = output.detach()

        def add(gradient: Tensor) -> None:
            rows = _gradient_rows(reader, gradient, value)
            self.total[id(reader.module)] += self.weight * (rows.t() @ rows).double()

        output.register_hook(add)  # type: ignore[no-untyped-call]
        return output


def _sampled_loss(kind: str, logits: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A random scalar, the second moment of whose gradient is the second derivative of the discrepancy at the output.

    For the cross-entropy the scalar is that with labels drawn from softmax(logits). For the squared error, whose second
    derivative is 2 J'J, it is sqrt(2) times the sum of the outputs with random signs (Hutchinson's estimator).

    logits (b, C) are those of this process's shard of `size` samples; every process draws for all.
    """
    shard = distributed.shard(size)
    if kind == "squared_error":
        signs = torch.randint(0, 2, (size, logits.shape[1]), generator=generator)[shard].mul(2).sub(1).to(logits)
        return 2**0.5 * (logits * signs).sum()
    all_logits = distributed.all_gather_rows(logits.detach(), size)
    labels = torch.multinomial(all_logits.softmax(1).cpu(), 1, generator=generator).squeeze(1)[shard]
    return F.cross_entropy(logits, labels.to(logits.device), reduction="sum")


def _gradient_rows(reader: Reader, gradient: Tensor, output: Tensor) -> Tensor:
    """The gradient at the reader's layer as rows (P, O), one per position, from the gradient at its module's output.

    They are the same but for a module that is more than its layer: the output of EdgeConv is behind batch norm, the
    maximum over k edges and a leaky ReLU. The slope and the gain of the batch norm are undone, and each of the k edges
    gets 1/k of the row's square.
    """
    custom = isinstance(reader.module, CustomReader)
    if custom:
        gradient = torch.where(output < 0, gradient * float(getattr(reader.module, "slope", 1.0)), gradient)
    if gradient.dim() > 2 and reader.channel_dim == -1:
        rows = gradient.reshape(-1, gradient.shape[-1])
    elif gradient.dim() > 2:
        rows = gradient.flatten(2).transpose(1, 2).reshape(-1, gradient.shape[1])
    else:
        rows = gradient
    if not custom:
        return rows
    if isinstance(reader.norm, _BatchNorm) and reader.norm.running_var is not None:
        rows = rows * (reader.norm.weight * torch.rsqrt(reader.norm.running_var + reader.norm.eps)).detach()
    edges: int = getattr(reader.module, "k", 1)
    return rows / math.sqrt(edges)
