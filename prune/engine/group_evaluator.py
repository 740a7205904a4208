"""One neuron group while a network is pruned: gap and discrepancy of scales, and the statistics of the group."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate, islice
from typing import Any

import torch
from torch import Tensor

from zoo import distributed
from zoo.models import NeuronGroup
from zoo.prune.engine.activation_cache import ActivationCache
from zoo.prune.engine.discrepancy import Target
from zoo.prune.engine.gates import Gates
from zoo.prune.engine.minibatch_losses import MinibatchLosses
from zoo.prune.engine.running_mean import RunningMean
from zoo.prune.options import MethodConfig
from zoo.prune.path import PruningPath, allowed_widths, smallest_width
from zoo.prune.reconstruct import ReaderReconstruction
from zoo.prune.statistics import ReaderMoments, check_finite, gram_matrix, observe_inputs


class GroupEvaluator(MinibatchLosses):
    """One neuron group in its network: what a scale on its neurons does to the network's output.

    There are two ways to evaluate scales. Without `reconstruct` the gates multiply the neurons by them. With it, the
    readers' weights are first solved for the neurons with a scale above 0 (`zoo.prune.reconstruct`), and the gates are
    1 for these neurons and 0 for the others. The losses and gradients of the global search (`MinibatchLosses`) always
    use gates, never reconstruction: their many candidates differ in the scales.

    config       the method with its settings
    fisher       Gamma (O, O) of each reader (`zoo.prune.statistics.fisher`) that weights local errors, or None
    reconstruct  whether readers' weights are solved; costs a pass over the pruning data at once
    """

    def __init__(
        self, group: NeuronGroup, activations: ActivationCache, gates: Gates, target: Target, config: MethodConfig, *,
        fisher: Sequence[Tensor] | None = None, reconstruct: bool = False, judges: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(group, activations, gates, target, batch_size=config.batch_size, judges=judges)
        self.config = config
        self.fisher = fisher
        self.reconstruction: ReaderReconstruction | None = None
        if reconstruct:
            self.reconstruction = ReaderReconstruction(group, self._reader_moments(), fisher, self.num_choosers)
        self.gram_rel_stderr: float | None = None  # of G, once `gram` has sampled positions
        self._gram: Tensor | None = None
        self._cached_sample_states: tuple[Tensor, list[tuple[Any, Tensor]]] | None = None
        self._logits: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def logits(self, scale: Tensor) -> Tensor:
        """Logits (J, C) of the samples that judge, with the group scaled by s (N,); cached for the next call."""
        key = _key(scale)
        if key not in self._logits:
            with self._evaluation_gate(scale) as gate:
                self._logits[key] = self.first_logits(gate, self.judges)
        return self._logits[key]

    @torch.no_grad()
    def first_logits(self, scale: Tensor, samples: int) -> Tensor:
        """Logits (samples, C) of the first pruning samples with the group scaled by s (N,), without reconstruction."""
        batches = next(k for k, seen in enumerate(accumulate(self.activations.sizes), 1) if seen >= samples)
        return torch.cat(list(islice(self.iter_logits(scale), batches)))[:samples]

    def gap_and_discrepancy(self, scale: Tensor) -> tuple[float, float]:
        """The gap and the mean discrepancy on the samples that judge, with the group scaled by s (N,)."""
        return self.target.gap_and_discrepancy(self.logits(scale))

    def exact_gap(self, scale: Tensor) -> float:
        """What is compared with eps: the gap with the group scaled by s (N,) on the samples that judge. Where these
        choose nothing, one standard error is added: they are few, and stand for all that are not seen."""
        gap = self.gap_and_discrepancy(scale)[0]
        return gap + self.target.gap_standard_error(self.logits(scale)) if self.first_chooser else gap

    @torch.no_grad()
    def chooser_discrepancy(self, scale: Tensor) -> float:
        """The mean discrepancy on the samples that choose, with the group scaled by s (N,). The target's reference has
        to be of all samples."""
        if not self.first_chooser:
            return self.gap_and_discrepancy(scale)[1]
        with self._evaluation_gate(scale) as gate:
            logits = torch.cat(list(self.iter_logits(gate, self.chooser_batches)))
        samples = self.first_chooser + torch.arange(len(logits), device=logits.device)
        return float(self.target.mean_discrepancy(logits, samples))

    @torch.no_grad()
    def gap(self, scale: Tensor, eps: float) -> float:
        """What is compared with eps (`exact_gap`), or the same over the first batches as soon as these show that the
        gap is above eps (`RunningMean.surely_above`).

        Most scales of a search have a gap far above eps, so most passes over the data end after a few batches.
        """
        key = _key(scale)
        if key in self._logits:
            return self.exact_gap(scale)
        mean, outputs = RunningMean(self.judges), []
        with self._evaluation_gate(scale) as gate:
            for logits in self.iter_logits(gate):
                outputs.append(logits)
                samples = int(mean.count) + torch.arange(len(logits), device=logits.device)
                gaps = self.target.sample_gaps(logits, samples)
                mean.add(len(gaps), float(gaps.sum()), float(gaps.square().sum()))
                if mean.complete or mean.surely_above(eps):
                    break
        if mean.complete:
            self._logits[key] = torch.cat(outputs)
        return mean.mean + mean.standard_error if self.first_chooser else mean.mean

    @torch.no_grad()
    def first_batch_discrepancy(self, scale: Tensor) -> float:
        """The mean discrepancy of the first batch with the group scaled by s (N,)."""
        with self._evaluation_gate(scale) as gate:
            logits = next(self.iter_logits(gate))
        return float(self.target.mean_discrepancy(logits, torch.arange(len(logits), device=logits.device)))

    @torch.no_grad()
    def sample_discrepancy(self, samples: Tensor, scale: Tensor, *, split: str = "all") -> float:
        """The mean discrepancy of some samples, ascending indices (b,), with the group scaled by s (N,).

        split  the samples that readers are reconstructed from (`ReaderReconstruction.solve`)

        The states of the samples are cached for the next call with the same samples.
        """
        if self._cached_sample_states is None or not torch.equal(self._cached_sample_states[0], samples):
            self._cached_sample_states = samples, list(self.iter_states(samples))
        with self._evaluation_gate(scale, split) as gate:
            sums = [
                float(self.target.sample_discrepancies(self.forward(state, gate), indices).double().sum())
                for state, indices in self._cached_sample_states[1]
            ]
        return float(distributed.all_reduce(torch.tensor(sum(sums), dtype=torch.float64))) / len(samples)

    def smallest_within_eps(self, path: PruningPath, eps: float) -> Tensor | None:
        """The scales (N,) on a path with the smallest number of neurons whose gap is below eps; None where only the
        unpruned group meets eps. Of the widths that the settings' `round_to` allows the number is the smallest, or, in
        large groups, within N / 64 of it, up to the settings' `eps_tolerance`.

        Along one path the discrepancy at the output is nearly proportional to the local one (MobileNetV2: within a
        factor of two while both fall a hundredfold), and the gap is mostly one to four times the discrepancy. So the
        discrepancy of one batch at 7 N / 8 neurons gives a first guess of the number.
        """
        N = path.size
        local = path.local_error(7 * N // 8) if N > 7 else None
        ratio = 2 * self.first_batch_discrepancy(path.scale(7 * N // 8)) / local if local else None
        widths = allowed_widths(N, self.config.search.round_to)
        step = self.config.search.round_to or 8
        index = smallest_width(
            len(widths), lambda i: self.gap(path.filled(widths[i - 1], widths), eps), eps, resolution=N // 64 // step,
            local_error=lambda i: path.local_error(widths[i - 1]), eps_tolerance=self.config.search.eps_tolerance,
            ratio=ratio if ratio is not None and 0 < ratio < math.inf else None,
        )  # fmt: skip
        return None if index == len(widths) else path.filled(widths[index - 1], widths)

    def gram(self, generator: torch.Generator) -> Tensor:
        """The statistics G (N, N) of local imitation over the samples that choose, float64 on the CPU; computed once.

        Where only a fraction of the positions enters, the generator's initial seed decides which, and
        `gram_rel_stderr` is then the relative standard error of G (`zoo.prune.statistics.gram.gram_matrix`).
        """
        if self._gram is None and self.reconstruction is not None:
            self._gram = self.reconstruction.gram_matrix()
        elif self._gram is None:
            G, self.gram_rel_stderr = gram_matrix(
                self.group, self._reader_passes(), fraction=self.config.search.position_fraction,
                generator=torch.Generator().manual_seed(generator.initial_seed()), fisher=self.fisher,
                samples=self.num_choosers,
            )  # fmt: skip
            self._gram = G.cpu()
        return self._gram

    def _reader_passes(self) -> Iterator[Callable[[], None]]:
        for batch in self.chooser_batches:
            if self.activations.local_samples[batch]:
                yield partial(self.run_readers, batch)

    def _reader_moments(self) -> list[ReaderMoments]:
        """The moments of each reader's inputs over the samples that choose, from one pass."""
        moments = [ReaderMoments(reader) for reader in self.group.readers]
        with observe_inputs(self.group, [statistics.add for statistics in moments]):
            for batch in self.chooser_batches:
                for statistics in moments:
                    statistics.start_batch(self.activations.sizes[batch])
                # All processes run the first batch, in which they agree on a centre.
                if self.activations.local_samples[batch] or batch == self.chooser_batches.start:
                    self.run_readers(batch)
        for statistics in moments:
            statistics.all_reduce()
            check_finite(self.group, statistics.reader, statistics.all.H)
        return moments

    @contextmanager
    def _evaluation_gate(self, scale: Tensor, split: str = "all") -> Iterator[Tensor]:
        """A context with the readers reconstructed for the neurons with s > 0 if reconstruction is on; yields the
        gate (N,)."""
        if self.reconstruction is None:
            yield scale
            return
        mask = scale > 0
        with self.reconstruction.applied(mask, split=split):
            yield mask.to(scale)


def _key(scale: Tensor) -> bytes:
    return scale.numpy(force=True).tobytes()
