"""The readers of one group while it is pruned: solved anew for any set of its neurons, and put back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from zoo.models import NeuronGroup, Reader
from zoo.prune.path import PruningPath
from zoo.prune.reconstruct.least_squares import choose_ridge, solve
from zoo.prune.reconstruct.subset_selection import Problem, stepwise_selection, swap_refinement
from zoo.prune.reconstruct.sweep_operator import cholesky_with_jitter
from zoo.prune.statistics import ReaderMoments, contributions


class ReaderReconstruction:
    """Least squares for the readers of a group.

    moments  of each reader, on the network as it is pruned so far
    weights  Gamma (O, O) of each reader (`zoo.prune.statistics.fisher`), or None for the plain squared error
    samples  M, how many samples the moments are of
    """

    def __init__(
        self, group: NeuronGroup, moments: Sequence[ReaderMoments], weights: Sequence[Tensor] | None, samples: int
    ) -> None:
        self.group = group
        self.moments = list(moments)
        self.weights = weights
        self.samples = samples
        self._ridges: list[float] | None = None

    def gram_matrix(self) -> Tensor:
        """G (N, N) of local imitation from the same statistics."""
        total = torch.zeros(())
        for reader, statistics, factor in zip(self.group.readers, self.moments, self._factors(), strict=True):
            flat = reader.all_columns.flatten().to(reader.weight.device)
            phi = statistics.all.raw()[flat][:, flat]
            gamma = None if self.weights is None else self.weights[self.group.readers.index(reader)]
            total = total.to(phi) + factor * contributions(phi, reader, gamma)
        return total.cpu()

    def _factors(self) -> list[float]:
        """What turns each reader's squared error into one unit: nats for a sample where Gamma is known (half of a
        quadratic form, over the samples), else parts of the target's energy."""
        if self.weights is not None:
            return [0.5 / self.samples] * len(self.moments)
        energies = [float(_energy(reader, each)) for reader, each in zip(self.group.readers, self.moments,
                                                                               strict=True)]  # fmt: skip
        return [1 / energy if energy > 0 else 1.0 for energy in energies]

    def path(self, direction: str, *, swap: bool = True) -> PruningPath:
        """For every n the neurons with which the repaired readers err least, as scales of 0 and 1; and that error."""
        problems, none = [], 0.0
        for k, (reader, statistics, factor) in enumerate(
            zip(self.group.readers, self.moments, self._factors(), strict=True)
        ):
            gamma = None if self.weights is None else self.weights[k]
            (A, B, m, saving), rest = _problem(reader, statistics, gamma, self._ridge_of_choice(reader, statistics))
            problems.append((factor * A, factor * B, m, factor * saving))
            none += factor * rest
        sets = stepwise_selection(problems, none, direction)
        N = self.group.size
        rows = torch.stack([sets.kept(n).double() for n in range(1, N + 1)])

        def swapped(scale: Tensor) -> Tensor:
            return swap_refinement(problems, scale > 0)[0].double()

        errors = sets.errors
        return PruningPath(rows, swapped if swap else None, lambda scale: float(errors[int(torch.count_nonzero(scale))]))

    def _ridge_of_choice(self, reader: Reader, statistics: ReaderMoments) -> float:
        """The ridge that the rows held out ask for when half of the neurons are kept, those that contribute most."""
        flat = reader.all_columns.flatten().to(reader.weight.device)
        own = contributions(statistics.all.raw()[flat][:, flat], reader, None).diagonal()
        kept = torch.zeros(self.group.size, dtype=torch.bool)
        kept[own.argsort(descending=True)[: max(1, self.group.size // 2)].cpu()] = True
        columns, fit_bias = _columns(reader, kept), has_bias(reader)
        return choose_ridge(statistics.train, statistics.val, reader.weight, columns, fit_bias=fit_bias)

    def solve(self, kept: Tensor, *, split: str = "all", warm_start: bool = True) -> list[tuple[Tensor, Tensor]]:
        """The change of weight (O, K) and bias (O,) of each reader for the neurons kept (N,) bool, from the samples of
        a `part`: all, or those not held out (fit). The ridge is chosen for every set, beginning at the last's; anew:
        whatever sets came before."""
        solved, ridges = [], []
        for k, (reader, statistics) in enumerate(zip(self.group.readers, self.moments, strict=True)):
            columns, fit_bias = _columns(reader, kept), has_bias(reader)
            start = None if not warm_start or self._ridges is None else self._ridges[k]
            fit, held = statistics.train, statistics.val
            ridges.append(choose_ridge(fit, held, reader.weight, columns, start=start, fit_bias=fit_bias))
            moments = statistics.all if split == "all" else fit
            solved.append(solve(moments, reader.weight, columns, ridges[-1], fit_bias=fit_bias))
        self._ridges = ridges
        return solved

    @contextmanager
    def applied(self, kept: Tensor, *, split: str = "all") -> Iterator[None]:
        """Inside the context the readers are those for the neurons kept."""
        saved = self.apply(self.solve(kept, split=split))
        try:
            yield
        finally:
            for tensor, value in saved:
                tensor.copy_(value)

    @torch.no_grad()
    def apply(self, solved: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """Change weights and biases in the network; what they were before comes back, tensor by tensor."""
        saved = []

        def change(tensor: Tensor, by: Tensor) -> None:
            saved.append((tensor, tensor.clone()))
            tensor.copy_((tensor.double() + by.view(tensor.shape)).to(tensor))

        for reader, (weight, shift) in zip(self.group.readers, solved, strict=True):
            layer, norm = reader.layer, reader.norm
            change(layer.weight.data, weight)  # type: ignore[arg-type]
            if getattr(layer, "bias", None) is not None:
                change(layer.bias.data, shift)  # type: ignore[arg-type]
            elif has_bias(reader):
                change(norm.running_mean, -shift)  # type: ignore[arg-type, union-attr]
        return saved


def _columns(reader: Reader, kept: Tensor) -> Tensor:
    """The columns of the weight that stay: the kept neurons', and those that belong to no neuron of the group."""
    stay = torch.ones(reader.weight.shape[1], dtype=torch.bool)
    stay[reader.all_columns[~kept].flatten()] = False
    return stay.nonzero().squeeze(1).to(reader.weight.device)


def has_bias(reader: Reader) -> bool:
    """Whether the layer has somewhere to put a constant."""
    return getattr(reader.layer, "bias", None) is not None or getattr(reader.norm, "running_mean", None) is not None


def _energy(reader: Reader, statistics: ReaderMoments) -> Tensor:
    """The squared norm about its mean of what the reader gives now."""
    W = reader.weight.double()
    return ((W @ statistics.all.centred()) * W).sum()


def _root(W: Tensor, gamma: Tensor) -> Tensor:
    """(K, .) R with R R' = W' gamma W, all that counts of the outputs; from the smaller of two eigenproblems."""
    narrow = W.shape[0] < W.shape[1]
    values, vectors = torch.linalg.eigh(gamma if narrow else W.t() @ gamma @ W)
    root: Tensor = vectors * values.clamp_min(0).sqrt()
    if narrow:
        root = W.t() @ root
    return root


def _problem(
    reader: Reader, statistics: ReaderMoments, gamma: Tensor | None, ridge: float
) -> tuple[Problem, float]:
    """The reader's problem for `Tableau`, and its error with no neuron of the group.

    With A = H + ridge and B = A W' the tableau's error is that of `solve`, and the ridge's square of the weights that
    go, which they are spared (`saving`). Columns that belong to no neuron are solved for whatever is kept: they are
    eliminated first.
    """
    H = statistics.all.centred() if has_bias(reader) else statistics.all.raw()
    W = reader.weight.double()
    strength = ridge * float(H.diagonal().mean()) + torch.finfo(H.dtype).tiny
    A = H + strength * torch.eye(len(H), dtype=H.dtype, device=H.device)
    right = W.t() if gamma is None else _root(W, gamma)
    B = A @ right
    own = reader.all_columns.flatten().to(H.device)
    m = reader.all_columns.shape[1]
    saving = strength * right[own].square().sum(1).view(-1, m).sum(1)
    none = float((right * B).sum() - saving.sum())  # tr(Y'Y), and the ridge's square of the other columns
    stay = torch.ones(len(H), dtype=torch.bool, device=H.device)
    stay[own] = False
    free = stay.nonzero().squeeze(1)
    if len(free):
        factor = cholesky_with_jitter(A[free][:, free])
        across = torch.cholesky_solve(A[free][:, own], factor)
        none -= float((B[free] * torch.cholesky_solve(B[free], factor)).sum())
        A, B = A.index_put((own[:, None], own), -A[own][:, free] @ across, accumulate=True), B.index_add(
            0, own, -across.t() @ B[free])  # fmt: skip
    return (A[own][:, own], B[own], m, saving), none
