"""The readers of one group while it is pruned: their weights solved for any set of its neurons, and put in place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from zoo.models import NeuronGroup, Reader
from zoo.prune.path import PruningPath
from zoo.prune.reconstruct.least_squares import choose_ridge, solve
from zoo.prune.reconstruct.reader_problem import has_bias, reader_problem
from zoo.prune.reconstruct.subset_selection import stepwise_selection, swap_refinement
from zoo.prune.statistics import ReaderMoments, contributions


class ReaderReconstruction:
    """Least squares for the readers of a group: their outputs are reconstructed from the neurons that are kept.

    moments  of each reader, on the network as it is pruned so far
    fisher   Gamma (O, O) of each reader (`zoo.prune.statistics.fisher`), or None for the plain squared error
    samples  M, how many samples the moments are of
    """

    def __init__(
        self, group: NeuronGroup, moments: Sequence[ReaderMoments], fisher: Sequence[Tensor] | None, samples: int
    ) -> None:
        self.group = group
        self.moments = list(moments)
        self.samples = samples
        self._gammas = [None] * len(self.moments) if fisher is None else list(fisher)
        self._ridges: list[float] | None = None  # of the last set that was solved

    def gram_matrix(self) -> Tensor:
        """G (N, N) of local imitation (`zoo.prune.statistics.gram`), float64 on the CPU, from the moments."""
        total = torch.zeros(())
        for statistics, gamma in zip(self.moments, self._gammas, strict=True):
            phi_gram = _neurons_gram(statistics)
            G = self._loss_factor(statistics, gamma) * contributions(phi_gram, statistics.reader, gamma)
            total = total.to(phi_gram) + G
        return total.cpu()

    def path(self, direction: str, *, swap: bool = True) -> PruningPath:
        """For every n the neurons that leave the smallest error after reconstruction, as scales of 0 and 1, with that
        error as the local discrepancy.

        direction  of `stepwise_selection`: backward or forward
        swap       refine the neurons of the n that is asked for (`swap_refinement`)
        """
        problems, error_of_none = [], 0.0
        for statistics, gamma in zip(self.moments, self._gammas, strict=True):
            factor = self._loss_factor(statistics, gamma)
            problem, error = reader_problem(statistics.reader, statistics.all, gamma, self._selection_ridge(statistics))
            problems.append(
                problem._replace(A=factor * problem.A, B=factor * problem.B, penalty=factor * problem.penalty)
            )
            error_of_none += factor * error
        subsets = stepwise_selection(problems, error_of_none, direction)
        rows = torch.stack([subsets.kept(n).double() for n in range(1, self.group.size + 1)])

        def refine(scale: Tensor) -> Tensor:
            return swap_refinement(problems, scale > 0)[0].double()

        return PruningPath(
            rows, refine if swap else None, lambda scale: float(subsets.errors[int(torch.count_nonzero(scale))]),
            error_of_row=True,
        )  # fmt: skip

    def solve(self, kept: Tensor, *, split: str = "all", warm_start: bool = True) -> list[tuple[Tensor, Tensor]]:
        """The change of weight (O, K) and of bias (O,) of each reader for the neurons kept (N,) bool.

        split       the samples to solve on: all, or train, those that the ridge is not chosen on
        warm_start  begin the search for the ridge at that of the last set; without it the result does not depend on
                    the sets solved before
        """
        changes, ridges = [], []
        for k, statistics in enumerate(self.moments):
            reader = statistics.reader
            columns, fit_bias = _kept_columns(reader, kept), has_bias(reader)
            start = self._ridges[k] if warm_start and self._ridges is not None else None
            ridge = choose_ridge(
                statistics.train, statistics.val, reader.weight, columns, start=start, fit_bias=fit_bias
            )
            moments = statistics.all if split == "all" else statistics.train
            changes.append(solve(moments, reader.weight, columns, ridge, fit_bias=fit_bias))
            ridges.append(ridge)
        self._ridges = ridges
        return changes

    @contextmanager
    def applied(self, kept: Tensor, *, split: str = "all") -> Iterator[None]:
        """A context in which the readers' weights are those solved for the neurons kept (N,) bool."""
        before = self.apply(self.solve(kept, split=split))
        try:
            yield
        finally:
            for tensor, value in before:
                tensor.copy_(value)

    @torch.no_grad()
    def apply(self, changes: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """Add the changes of `solve` to the weights and biases in the network. Returns each changed tensor with the
        value that it had.

        Where the layer has no bias, the batch norm behind it takes the constant: its running mean falls by it.
        """
        before = []

        def add(tensor: Tensor, change: Tensor) -> None:
            before.append((tensor, tensor.clone()))
            tensor.copy_((tensor.double() + change.view(tensor.shape)).to(tensor))

        for reader, (weight, bias) in zip(self.group.readers, changes, strict=True):
            layer, norm = reader.layer, reader.norm
            add(layer.weight.data, weight)  # type: ignore[arg-type]
            if getattr(layer, "bias", None) is not None:
                add(layer.bias.data, bias)  # type: ignore[arg-type]
            elif has_bias(reader):
                add(norm.running_mean, -bias)  # type: ignore[arg-type, union-attr]
        return before

    def _loss_factor(self, statistics: ReaderMoments, gamma: Tensor | None) -> float:
        """What a reader's squared error is multiplied by before readers are added: 1 / (2 M) with Gamma, which gives
        nats per sample (half of a quadratic form); otherwise 1 / the energy of the reader's output about its mean."""
        if gamma is not None:
            return 0.5 / self.samples
        W = statistics.reader.weight.double()
        energy = float(((W @ statistics.all.centred()) * W).sum())
        return 1 / energy if energy > 0 else 1.0

    def _selection_ridge(self, statistics: ReaderMoments) -> float:
        """The ridge for the choice of neurons: the best on held-out samples when the half of the neurons is kept that
        contributes most."""
        reader, N = statistics.reader, self.group.size
        contribution = contributions(_neurons_gram(statistics), reader, None).diagonal()
        kept = torch.zeros(N, dtype=torch.bool)
        kept[contribution.argsort(descending=True)[: max(1, N // 2)].cpu()] = True
        return choose_ridge(
            statistics.train, statistics.val, reader.weight, _kept_columns(reader, kept), fit_bias=has_bias(reader)
        )


def _neurons_gram(statistics: ReaderMoments) -> Tensor:
    """Phi'Phi (N m, N m) over the columns that the group owns, neuron by neuron."""
    reader = statistics.reader
    flat = reader.all_columns.flatten().to(reader.weight.device)
    return statistics.all.raw()[flat][:, flat]


def _kept_columns(reader: Reader, kept: Tensor) -> Tensor:
    """The columns of the reader's weight that stay: those of the kept neurons, and those of no neuron of the group."""
    stay = torch.ones(reader.weight.shape[1], dtype=torch.bool)
    stay[reader.all_columns[~kept].flatten()] = False
    return stay.nonzero().squeeze(1).to(reader.weight.device)
