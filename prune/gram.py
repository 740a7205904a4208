"""The statistics of local imitation: G_ij = <c_i, c_j>, all that its greedy search ever needs.

With Phi the reader's input (P, K) and W its weight (O, K), neuron i contributes c_i = sum over columns(i) of
Phi[:, col] W[:, col]^T to the reader's output, so

    G_ij = sum over a in columns(i), b in columns(j) of (Phi^T Phi)_ab (W^T W)_ab

and one pass over the data suffices (Ye et al. 2020, section 2.1 "Solving Greedy Optimization" and appendix 5.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.models.groups import NeuronGroup, Reader
from zoo.prune.columns import pieces


class ReaderGram:
    """Phi^T Phi (K', K') of one reader over the columns its group owns, accumulated in float64."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.columns = reader.all_columns
        self.total: Tensor | None = None
        self.all = self.columns.numel() == reader.weight.shape[1]

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Take in one input of the reader."""
        for phi in pieces(self.reader, x):
            if not self.all:
                phi = phi[:, self.columns.flatten().to(phi.device)]
            gram = (phi.t() @ phi).double()
            self.total = gram if self.total is None else self.total.add_(gram)

    def contributions(self) -> Tensor:
        """G (N, N), float64."""
        if self.total is None:
            raise ZooError("The reader was not called on the data: is it part of the network's forward?")
        N, m = self.columns.shape
        flat = self.columns.flatten().to(self.total.device)
        W = self.reader.weight[:, flat].double()
        # Where the group owns every column, the statistics are in the weight's own order; bring them into the group's.
        phi = self.total[flat][:, flat] if self.all else self.total
        return (phi * (W.t() @ W)).view(N, m, N, m).sum((1, 3))


def gram(group: NeuronGroup, passes: Iterable[Callable[[], object]]) -> Tensor:
    """G (N, N) of a group, float64, on the device of the data.

    Each element of `passes` runs the part of the network from before the group's readers to behind them on one
    batch. The readers' statistics are added, each divided by its target's energy ||sum_i c_i||^2, so D(1) = 0 and
    D(0) = number of readers whose target is not zero.
    """
    grams = [ReaderGram(reader) for reader in group.readers]
    handles = [
        reader.module.register_forward_pre_hook(_feed(statistics), prepend=False)
        for reader, statistics in zip(group.readers, grams, strict=True)
    ]
    try:
        for forward in passes:
            forward()
    finally:
        for handle in handles:
            handle.remove()
    total = None
    for statistics in grams:
        G = statistics.contributions()
        energy = G.sum()
        if energy > 0:
            G = G / energy
        total = G if total is None else total + G
    assert total is not None  # a group has at least one reader
    return total


def _feed(statistics: ReaderGram) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    return lambda module, inputs: statistics.add(inputs[0].detach())
