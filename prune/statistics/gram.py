"""The statistics of local imitation: the Gram matrix G_ij = <c_i, c_j> of the neurons' contributions to a reader.

With Phi (P, K) the reader's input as a matrix and W (O, K) its weight, neuron i contributes

    c_i = sum over a in columns(i) of Phi_a W_a^T                                          (P, O)

to the reader's output, where Phi_a and W_a are columns. Therefore

    G_ij = sum over a in columns(i), b in columns(j) of (Phi^T Phi)_ab (W^T W)_ab

follows from Phi^T Phi, which one pass over the data sums up, and local imitation needs nothing else (Ye et al. 2020,
section 2.1 "Solving Greedy Optimization" and appendix 5.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from zoo import distributed
from zoo.errors import ZooError
from zoo.models import NeuronGroup, Reader
from zoo.prune.statistics.input_matrix import iter_rows, iter_sampled_rows, observe_inputs

BLOCKED_FROM = 512  # columns


class ReaderGram:
    """Phi^T Phi (N m, N m) of one reader over the columns that its group owns, accumulated in float64.

    With fraction < 1 the output positions of a k x k convolution are sampled, in two independent halves.
    """

    def __init__(self, reader: Reader, fraction: float = 1.0, generator: torch.Generator | None = None) -> None:
        self.reader = reader
        self.columns = reader.all_columns
        self.fraction = fraction
        self.generator = generator or torch.Generator().manual_seed(0)
        self.halves: list[Tensor | None] = [None, None]  # the second stays None where all positions are used
        self.is_sampled = False
        self.owns_all_columns = self.columns.numel() == reader.weight.shape[1]

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Add one input of the reader's module."""
        sampled = None
        if self.fraction < 1:
            sampled = iter_sampled_rows(self.reader, x, self.fraction, self.generator)
        if sampled is None:
            for phi in iter_rows(self.reader, x):
                self._add(0, phi)
            return
        self.is_sampled = True
        for halves in sampled:
            for half, phi in enumerate(halves):
                self._add(half, phi)

    def _add(self, half: int, phi: Tensor) -> None:
        if not self.owns_all_columns:
            phi = phi[:, self.columns.flatten().to(phi.device)]
        gram = gram_of(phi).double()
        total = self.halves[half]
        self.halves[half] = gram if total is None else total.add_(gram)

    def all_reduce(self) -> None:
        """Add up the statistics of all processes, of which some may have had no sample."""
        if not distributed.is_distributed():
            return
        called, self.is_sampled = distributed.any_rank(self.halves[0] is not None, self.is_sampled)
        K, weight = self.columns.numel(), self.reader.weight
        for half in range(called + self.is_sampled):
            local = self.halves[half]
            zeros = torch.zeros(K, K, dtype=torch.float64, device=weight.device)
            self.halves[half] = distributed.all_reduce(zeros if local is None else local)

    def contributions(self, gamma: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """G (N, N), float64, of each half; the second is 0 where nothing was sampled. gamma: see `contributions`.

        Raises ZooError if the reader was never called.
        """
        if self.halves[0] is None:
            raise ZooError("The reader was not called on the data: is it part of the network's forward?")
        flat = self.columns.flatten().to(self.halves[0].device)

        def gram(total: Tensor) -> Tensor:
            # `contributions` takes columns neuron by neuron; where the group owns all, they are in the weight's order.
            ordered = total[flat][:, flat] if self.owns_all_columns else total
            return contributions(ordered, self.reader, gamma)

        first = gram(self.halves[0])
        return first, torch.zeros_like(first) if self.halves[1] is None else gram(self.halves[1])


def contributions(phi_gram: Tensor, reader: Reader, gamma: Tensor | None = None) -> Tensor:
    """G (N, N) from Phi^T Phi (N m, N m) over the columns that the group owns, neuron by neuron.

    gamma (O, O) weights the reader's outputs: W^T gamma W takes the place of W^T W.
    """
    N, m = reader.all_columns.shape
    W = reader.weight[:, reader.all_columns.flatten().to(phi_gram.device)].double()
    weight = W.t() @ (W if gamma is None else gamma @ W)
    return (phi_gram * weight).view(N, m, N, m).sum((1, 3))


def gram_of(phi: Tensor) -> Tensor:
    """Phi^T Phi (K, K) of a matrix (P, K), in float32 at least."""
    phi = phi.to(torch.promote_types(phi.dtype, torch.float32))  # float16 overflows at 65504
    with torch.autocast(phi.device.type, enabled=False):  # the forward around this may run in bfloat16
        return _blocked_gram(phi)


def _blocked_gram(phi: Tensor) -> Tensor:
    """Phi^T Phi, of a wide Phi by the blocks on and above the diagonal alone: the others are their transposes."""
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
    if not all(bool(torch.isfinite(tensor).all()) for tensor in statistics):
        raise ZooError(
            f"A {type(reader.module).__name__} that reads group {group.name} sees values that are not finite, or too "
            f"large to square: fix the weights, scale the inputs, or use float32."
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
    """G (N, N) of a group, float64, on the device of the data, and its relative standard error from sampling.

    passes    functions, each of which runs the group's readers on one batch
    fraction  below 1, the fraction of the output positions of k x k convolutions that enters. The second value is then
              the standard error of G relative to its Frobenius norm, estimated from two independent halves of the
              positions; otherwise it is None
    fisher    Gamma (O, O) of each reader (`zoo.prune.statistics.fisher`), or None
    samples   M, how many samples the passes have in all

    The statistics of several readers are added. Each is divided by its energy ||sum_i c_i||^2 = 1'G1, so that the local
    discrepancy is D(1) = 0 with all neurons, and with none the number of readers whose energy is not 0. With `fisher`
    each is multiplied by 1 / (2 M) instead, and D is in nats per sample.
    """
    statistics = [ReaderGram(reader, fraction, generator) for reader in group.readers]
    with observe_inputs(group, [reader_gram.add for reader_gram in statistics]):
        for forward in passes:
            forward()
    total = difference = torch.zeros(())
    for index, reader_gram in enumerate(statistics):
        reader_gram.all_reduce()
        check_finite(group, reader_gram.reader, *(half for half in reader_gram.halves if half is not None))
        first, second = reader_gram.contributions(None if fisher is None else fisher[index])
        G = first + second
        energy = G.sum()
        scale = 0.5 / samples if fisher is not None else 1 / energy if energy > 0 else 1.0
        total = total.to(G) + scale * G
        if reader_gram.is_sampled:
            difference = difference.to(G) + scale * (first - second)
    if not any(reader_gram.is_sampled for reader_gram in statistics):
        return total, None
    norm = total.norm().clamp_min(torch.finfo(total.dtype).tiny)
    return total, math.sqrt(1 - fraction) * float(difference.norm() / norm)
