"""The statistics of local imitation: G_ij = <c_i, c_j>, all that its greedy search ever needs.

With Phi the reader's input (P, K) and W its weight (O, K), neuron i contributes c_i = sum over columns(i) of
Phi[:, col] W[:, col]^T to the reader's output, so

    G_ij = sum over a in columns(i), b in columns(j) of (Phi^T Phi)_ab (W^T W)_ab

and one pass over the data suffices (Ye et al. 2020, section 2.1 "Solving Greedy Optimization" and appendix 5.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from zoo import distributed
from zoo.errors import ZooError
from zoo.models import NeuronGroup, Reader
from zoo.prune.statistics.input_matrix import iter_rows, iter_sampled_rows

BLOCKED_FROM = 512


class ReaderGram:
    """Phi^T Phi (K', K') of one reader over the columns its group owns, accumulated in float64.

    With fraction < 1 the positions of a k x k convolution are sampled, in two independent halves.
    """

    def __init__(self, reader: Reader, fraction: float = 1.0, generator: torch.Generator | None = None) -> None:
        self.reader = reader
        self.columns = reader.all_columns
        self.fraction = fraction
        self.generator = generator or torch.Generator().manual_seed(0)
        self.halves: list[Tensor | None] = [None, None]
        self.sampled = False
        self.all = self.columns.numel() == reader.weight.shape[1]

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Take in one input of the reader."""
        drawn = iter_sampled_rows(self.reader, x, self.fraction, self.generator) if self.fraction < 1 else None
        if drawn is None:
            for phi in iter_rows(self.reader, x):
                self._add(0, phi)
            return
        self.sampled = True
        for halves in drawn:
            for half, phi in enumerate(halves):
                self._add(half, phi)

    def _add(self, half: int, phi: Tensor) -> None:
        if not self.all:
            phi = phi[:, self.columns.flatten().to(phi.device)]
        gram_matrix = gram_of(phi).double()
        total = self.halves[half]
        self.halves[half] = gram_matrix if total is None else total.add_(gram_matrix)

    def total(self) -> None:
        """Take in what the other processes have; this one may have had no sample."""
        if not distributed.is_distributed():
            return
        called, self.sampled = distributed.any_rank(self.halves[0] is not None, self.sampled)
        K, weight = self.columns.numel(), self.reader.weight
        for half in range(called + self.sampled):
            mine = self.halves[half]
            zeros = torch.zeros(K, K, dtype=torch.float64, device=weight.device)
            self.halves[half] = distributed.all_reduce(zeros if mine is None else mine)

    def contributions(self, gamma: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """G (N, N), float64, of each half; the second is 0 where nothing was sampled. gamma: see `contributions`."""
        if self.halves[0] is None:
            raise ZooError("The reader was not called on the data: is it part of the network's forward?")
        flat = self.columns.flatten().to(self.halves[0].device)

        def of(total: Tensor) -> Tensor:
            # Where the group owns every column, the statistics are in the weight's own order; bring them into the
            # group's.
            return contributions(total[flat][:, flat] if self.all else total, self.reader, gamma)

        first = of(self.halves[0])
        return first, torch.zeros_like(first) if self.halves[1] is None else of(self.halves[1])


def contributions(phi: Tensor, reader: Reader, gamma: Tensor | None = None) -> Tensor:
    """G (N, N) from Phi^T Phi over the owned columns, neuron after neuron (N m, N m).

    gamma (O, O) weights the reader's outputs: W^T gamma W in place of W^T W.
    """
    N, m = reader.all_columns.shape
    W = reader.weight[:, reader.all_columns.flatten().to(phi.device)].double()
    weight = W.t() @ (W if gamma is None else gamma @ W)
    return (phi * weight).view(N, m, N, m).sum((1, 3))


def gram_of(phi: Tensor) -> Tensor:
    """Phi^T Phi (K, K) in float32 at least; of a wide Phi only the blocks on and above the diagonal: the others are
    their mirror."""
    phi = phi.to(torch.promote_types(phi.dtype, torch.float32))  # half precision ends at 65504
    with torch.autocast(phi.device.type, enabled=False):  # the forward around it may be in less
        return _square(phi)


def _square(phi: Tensor) -> Tensor:
    K = phi.shape[1]
    if K < BLOCKED_FROM:
        return phi.t() @ phi
    total, step = phi.new_empty(K, K), -(-K // 8)
    for i in range(0, K, step):
        block = phi[:, i : i + step].t() @ phi[:, i:]
        total[i : i + step, i:] = block
        total[i:, i : i + step] = block.t()
    return total


def check_finite(group: NeuronGroup, reader: Reader, *statistics: Tensor) -> None:
    """Raise ZooError unless all statistics of a reader are finite numbers."""
    if not all(bool(torch.isfinite(each).all()) for each in statistics):
        raise ZooError(
            f"A {type(reader.module).__name__} that reads group {group.name} sees values that are not finite, or too "
            f"large to square: mend the weights, scale the inputs, or use float32."
        )


def gram_matrix(
    group: NeuronGroup,
    passes: Iterable[Callable[[], object]],
    *,
    fraction: float = 1.0,
    generator: torch.Generator | None = None,
    fisher: Sequence[Tensor] | None = None,
    samples: int = 1,
) -> tuple[Tensor, float | None]:
    """G (N, N) of a group, float64, on the device of the data, and how uncertain it is for the sampling.

    Each element of `passes` runs the part of the network from before the group's readers to behind them on one
    batch. The readers' statistics are added, each divided by its target's energy ||sum_i c_i||^2, so D(1) = 0 and
    D(0) = number of readers whose target is not zero. With `fisher`, Gamma (O, O) of each reader
    (`zoo.prune.statistics.fisher`), D is in nats for a sample instead, of `samples` in all.

    fraction < 1 samples the positions of k x k convolutions. The second value is then the relative standard error of G in
    the Frobenius norm, estimated from two independent halves of the positions, those in place of all; else None.
    """
    grams = [ReaderGram(reader, fraction, generator) for reader in group.readers]
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
    for reader, statistics in zip(group.readers, grams, strict=True):
        statistics.total()
        check_finite(group, reader, *(half for half in statistics.halves if half is not None))
    total = difference = torch.zeros(())
    for index, statistics in enumerate(grams):
        first, second = statistics.contributions(None if fisher is None else fisher[index])
        G = first + second
        energy = G.sum()
        scale = 0.5 / samples if fisher is not None else 1 / energy if energy > 0 else 1.0
        total = total.to(G) + scale * G
        if statistics.sampled:
            difference = difference.to(G) + scale * (first - second)
    if not any(statistics.sampled for statistics in grams):
        return total, None
    return total, math.sqrt(1 - fraction) * float(difference.norm() / total.norm().clamp_min(torch.finfo(total.dtype).tiny))


def _feed(statistics: ReaderGram) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    return lambda module, inputs: statistics.add(inputs[0].detach())
