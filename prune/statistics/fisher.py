"""What an error at a reader's output does at the network's output: the second moment of the loss's gradient there.

A small change d of a reader's output at one position raises the divergence of the class probabilities by d' F d / 2, F
the Fisher information. Gamma (O, O) is F summed over the positions of a sample, its mean over samples: W^T Gamma W in
place of W^T W brings the local discrepancy (Ye, Wu, Liu 2020, section 2.1) to the unit of the global one, nats for a
sample, up to what positions do together. It needs no labels: they are drawn from the network's own probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

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
    """Group name -> Gamma (O, O), float64, of each of its readers, from one backward pass over the batches.

    kind            the discrepancy at the output (zoo.prune.engine.discrepancy). For the squared error, whose second
                    derivative is 2 J'J, the gradient is that of the outputs with random signs (Hutchinson's estimator)
    label_weight  the part of Gamma that comes from the gradients of the loss with the true `labels` (a list of (b,)):
                    directions that tell the true class count, whatever the network thinks (after Zhuang et al. 2018,
                    Discrimination-aware Channel Pruning)
    """
    if label_weight and labels is None:
        raise ZooError("The discrimination-aware weighting needs the labels of the pruning samples.")
    readers = {id(reader.module): reader for group in groups for reader in group.readers}
    total: dict[int, Tensor] = {}
    part = 1.0
    handles = [
        reader.module.register_forward_hook(lambda module, inputs, output: _listen(module, output, add))
        for reader in readers.values()
    ]

    def add(module: nn.Module, gradient: Tensor, output: Tensor) -> None:
        reader = readers[id(module)]
        rows = _rows(reader, gradient, output)
        key = id(module)
        total[key] = total.get(key, 0) + part * (rows.t() @ rows).double()

    samples = 0
    given = iter(labels) if labels is not None else None
    try:
        for batch in batches:
            samples += len(batch)
            own = distributed.shard(len(batch))
            mine = batch[own]
            with torch.enable_grad():
                # Without a sample of its own a process runs one all the same, and the gradients are 0.
                logits = model(mine if len(mine) else batch[:1])[: len(mine)]
                part = 1 - label_weight
                if part:
                    _back(_drawn(kind, logits, len(batch), generator), again=bool(label_weight))
                if label_weight and given is not None:
                    part = label_weight
                    _back(F.cross_entropy(logits, next(given)[own], reduction="sum"))
    finally:
        for handle in handles:
            handle.remove()
    zero = {key: reader.weight.new_zeros(len(reader.weight), len(reader.weight), dtype=torch.float64)
            for key, reader in readers.items()}  # fmt: skip
    total = {key: distributed.all_reduce(total.get(key, zero[key])) for key in readers}
    return {
        group.name: [total[id(r.module)] / max(samples, 1) for r in group.readers]
        for group in groups
    }


def _drawn(kind: str, logits: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A random scalar whose gradient has the discrepancy's second derivative at the output as its second moment.

    logits (b, C) are this process's own of a batch of `size`; what is drawn is drawn for all, by all alike.
    """
    own = distributed.shard(size)
    if kind == "squared_error":
        signs = torch.randint(0, 2, (size, logits.shape[1]), generator=generator)[own].mul(2).sub(1).to(logits)
        return 2**0.5 * (logits * signs).sum()
    every = distributed.all_gather_rows(logits.detach(), size)
    labels = torch.multinomial(every.softmax(1).cpu(), 1, generator=generator).squeeze(1)[own]
    return F.cross_entropy(logits, labels.to(logits.device), reduction="sum")


def _back(loss: Tensor, *, again: bool = False) -> None:
    loss.backward(retain_graph=again)  # type: ignore[no-untyped-call]


def _listen(module: nn.Module, output: Tensor, add: Callable[[nn.Module, Tensor, Tensor], None]) -> Tensor:
    """Hear of the gradient at a module's output. Weights being still, the graph begins at the first one listened to: a
    clone, for what follows may change its input in place."""
    if not output.requires_grad:
        output = output.detach().requires_grad_().clone()
    value = output.detach()
    output.register_hook(lambda gradient: add(module, gradient, value))  # type: ignore[no-untyped-call]
    return output


def _rows(reader: Reader, gradient: Tensor, output: Tensor) -> Tensor:
    """The gradient at the module's output as rows (P, O), taken back to the layer's own output.

    A module that is more than its layer, EdgeConv, gives its output behind batch norm, the maximum over k edges and a
    leaky ReLU: the slope and the batch norm's gain are undone, and each of the k edges gets a k-th of the row.
    """
    mixing = isinstance(reader.module, CustomReader)
    if mixing:
        gradient = torch.where(output < 0, gradient * float(getattr(reader.module, "slope", 1.0)), gradient)
    rows = gradient.flatten(2).transpose(1, 2).reshape(-1, gradient.shape[1]) if gradient.dim() > 2 else gradient
    if gradient.dim() > 2 and reader.channel_dim == -1:
        rows = gradient.reshape(-1, gradient.shape[-1])
    if not mixing:
        return rows
    if isinstance(reader.norm, _BatchNorm) and reader.norm.running_var is not None:
        rows = rows * (reader.norm.weight * torch.rsqrt(reader.norm.running_var + reader.norm.eps)).detach()
    edges: int = getattr(reader.module, "k", 1)
    return rows / math.sqrt(edges)
