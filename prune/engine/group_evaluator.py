"""One group in its network during pruning: try scales, look at the gap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo import distributed
from zoo.errors import ZooError
from zoo.models import NeuronGroup
from zoo.prune.engine.activation_cache import ActivationCache, concatenate, repeat_samples, take_samples
from zoo.prune.engine.discrepancy import Target
from zoo.prune.engine.gates import Gates
from zoo.prune.engine.partial_sums import RunningMean
from zoo.prune.options import MethodConfig
from zoo.prune.path import PruningPath, smallest_width
from zoo.prune.reconstruct import ReaderReconstruction
from zoo.prune.statistics import ReaderMoments, check_finite, gram_matrix


class GroupEvaluator:
    """A group, the data in front of its readers, and the target it is held against.

    Evaluations start in front of the group's first reader; nothing before it is computed again. With `reconstruct` an
    evaluation keeps the neurons with a scale above 0 and reconstructs the readers' weights for them first; not so the
    global search, whose many candidates (`batched_candidate_losses`, `gradient`) only scale the neurons.

    fisher       Fisher information (O, O) at each reader's output, or None for plain squared errors
    reconstruct  gather the readers' moments now, from one pass over the data, for `reconstruction`
    """

    def __init__(
        self, group: NeuronGroup, chain: ActivationCache, gates: Gates, target: Target, config: MethodConfig, *,
        fisher: Sequence[Tensor] | None = None, reconstruct: bool = False,
    ) -> None:  # fmt: skip
        self.group = group
        self.chain = chain
        self.gates = gates
        self.target = target
        self.config = config
        self.fisher = fisher
        self.batch_size = batch_size = config.batch_size
        # Many samples fill a GPU; on a CPU few stay in its caches.
        self.max_forward_samples = 16 * batch_size if target.reference.is_cuda else batch_size
        self._picked: tuple[Tensor, list[tuple[Any, Tensor]]] | None = None
        self._logits: dict[bytes, Tensor] = {}
        self._gram: Tensor | None = None
        self.gram_rel_stderr: float | None = None  # of `gram`, where positions were sampled
        self.reconstruction: ReaderReconstruction | None = None
        if reconstruct:
            self.reconstruction = ReaderReconstruction(group, self.moments(), fisher, self.samples)

    @property
    def size(self) -> int:
        return self.group.size

    @property
    def samples(self) -> int:
        """M"""
        return sum(self.chain.sizes)

    @torch.no_grad()
    def logits(self, scale: Tensor) -> Tensor:
        """Logits (M, C) of the whole pruning data with the group scaled by s (N,); computed once for each scale."""
        key = scale.numpy(force=True).tobytes()
        if key not in self._logits:
            with self._gated(scale) as gate:
                self._logits[key] = torch.cat(list(self._iter_logits(gate)))
        return self._logits[key]

    @torch.no_grad()
    def gap(self, scale: Tensor, eps: float) -> float:
        """The gap that `compare` gives; but as soon as the batches seen leave no doubt that it is above eps, theirs.

        Most numbers of neurons that a search looks at are far off, and that shows early. With `looks`, what an earlier
        run saw is not looked at again.
        """
        key, total = scale.numpy(force=True).tobytes(), self.samples
        if key in self._logits:
            return self.gap_and_discrepancy(scale)[0]
        sums, parts = RunningMean(total), []
        with self._gated(scale) as gate:
            for logits in self._iter_logits(gate):
                parts.append(logits)
                samples = int(sums.count) + torch.arange(len(logits), device=logits.device)
                gaps = self.target.sample_gaps(logits, samples)
                sums.add(len(gaps), float(gaps.sum()), float(gaps.square().sum()))
                if sums.surely_above(eps):
                    break
        if sums.complete:
            self._logits[key] = torch.cat(parts)
        return sums.mean

    @torch.no_grad()
    def forward(self, scale: Tensor, samples: int) -> Tensor:
        """Logits (samples, C) of the first pruning samples with the group scaled by s (N,), its readers as they are."""
        enough = next(k for k, seen in enumerate(accumulate(self.chain.sizes), 1) if seen >= samples)
        return torch.cat(list(islice(self._iter_logits(scale), enough)))[:samples]

    def gap_and_discrepancy(self, scale: Tensor) -> tuple[float, float]:
        """(gap, discrepancy) on the whole pruning data with the group scaled by s (N,)."""
        return self.target.gap_and_discrepancy(self.logits(scale))

    @torch.no_grad()
    def first_batch_discrepancy(self, scale: Tensor) -> float:
        """The discrepancy on the first batch alone: a cheap look before `compare`."""
        with self._gated(scale) as gate:
            logits = next(self._iter_logits(gate))
        return float(self.target.mean_discrepancy(logits, torch.arange(len(logits), device=logits.device)))

    def smallest_within_eps(self, path: PruningPath, eps: float) -> Tensor | None:
        """The scales (N,) along a path with the smallest number of neurons whose gap is below eps, up to N / 64 and
        eps_tolerance (`zoo.prune.Search`); None where no number of neurons but N meets it.

        Along one path the discrepancy at the output is nearly proportional to the local one (MobileNetV2: within a
        factor of two while both fall a hundredfold), so a glance at one number of neurons says where to look first. The
        gap, which the labels tell, is mostly one to four times the discrepancy.
        """
        N = path.size
        local = path.local_error(7 * N // 8) if N > 7 else None
        ratio = 2 * self.first_batch_discrepancy(path.scale(7 * N // 8)) / local if local else None
        n = smallest_width(
            N, lambda n: self.gap(path.scale(n), eps), eps, resolution=N // 64, local_error=path.local_error,
            eps_tolerance=self.config.search.eps_tolerance, ratio=ratio if ratio is not None and 0 < ratio < math.inf else None,
        )  # fmt: skip
        return None if n == N else path.scale(n)

    def gram(self, generator: torch.Generator) -> Tensor:
        """G (N, N) of local imitation on the CPU, computed once: from the readers' moments with `reconstruct`, else from
        the fraction of positions that the settings ask for, drawn by the generator's seed."""
        if self._gram is None and self.reconstruction is not None:
            self._gram = self.reconstruction.gram_matrix()
        elif self._gram is None:
            self._gram, self.gram_rel_stderr = self.gram_matrix(
                fraction=self.config.search.position_fraction,
                generator=torch.Generator().manual_seed(generator.initial_seed()), fisher=self.fisher,
            )  # fmt: skip
        return self._gram

    def gram_matrix(
        self,
        *,
        fraction: float = 1.0,
        generator: torch.Generator | None = None,
        fisher: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, float | None]:
        """The statistics G (N, N) of local imitation over the whole pruning data, on the CPU, and their sampling error
        (`zoo.prune.statistics.gram.gram_matrix`)."""
        G, error = gram_matrix(
            self.group, self._passes(), fraction=fraction, generator=generator, fisher=fisher, samples=self.samples
        )
        return G.cpu(), error

    def moments(self) -> list[ReaderMoments]:
        """Those of each reader over the whole pruning data (`zoo.prune.statistics.moments`)."""
        found = [ReaderMoments(reader) for reader in self.group.readers]
        handles = [
            reader.module.register_forward_pre_hook(lambda module, inputs, to=each: to.add(inputs[0]))
            for reader, each in zip(self.group.readers, found, strict=True)
        ]
        try:
            for batch, size in enumerate(self.chain.sizes):
                for each in found:
                    each.start_batch(size)
                if self.chain.local_samples[batch] or batch == 0:  # all agree on a centre in the first
                    self._run_readers(self.chain.state(batch))
        finally:
            for handle in handles:
                handle.remove()
        for reader, each in zip(self.group.readers, found, strict=True):
            each.total()
            check_finite(self.group, reader, each.all.H)
        return found

    def _passes(self) -> Iterator[Callable[[], Any]]:
        """From before the group's readers to behind them, batch by batch."""
        for state in self.chain.states():
            yield lambda state=state: self._run_readers(state)  # type: ignore[misc]

    @contextmanager
    def _gated(self, scale: Tensor, split: str = "all") -> Iterator[Tensor]:
        """What to gate the group with for a trial of a scale (N,); with a repairer its readers are solved for it."""
        if self.reconstruction is None:
            yield scale
            return
        kept = scale > 0
        with self.reconstruction.applied(kept, split=split):
            yield kept.to(scale)

    def minibatch(self, generator: torch.Generator) -> tuple[Any, Tensor]:
        """A random mini-batch: the state in front of the readers, and the numbers (b,) of its samples; of several
        processes each has those that are its own, and the state None where there are none."""
        chosen = torch.randperm(self.samples, generator=generator)[: self.batch_size].sort().values
        parts = list(self._iter_states(chosen))
        if not parts:
            return None, chosen[:0]
        return concatenate([state for state, _ in parts]), torch.cat([numbers for _, numbers in parts])

    def _iter_states(self, chosen: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """The states of some samples, ascending numbers (b,), batch by batch, and their numbers."""
        for batch, numbers in enumerate(self.chain.local_samples):
            inside = chosen[(chosen >= numbers.start) & (chosen < numbers.stop)]
            if len(inside):
                rows, inside = (self._sent(of) for of in (inside - numbers.start, inside))
                yield take_samples(self.chain.state(batch), rows), inside

    def _sent(self, numbers: Tensor) -> Tensor:
        """Numbers (b,) from the CPU to where the data is; a copy from pinned memory goes without waiting."""
        device = self.target.reference.device
        return numbers.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else numbers.to(device)

    @torch.no_grad()
    def sample_discrepancy(self, samples: Tensor, scale: Tensor, *, split: str = "all") -> float:
        """The mean discrepancy of some samples, ascending numbers (b,), with the group scaled by s (N,); with a
        repairer the readers are solved from the samples of a `part` (`Repairer.solve`). Their states are kept for the
        next look at the same samples."""
        if self._picked is None or not torch.equal(self._picked[0], samples):
            self._picked = samples, list(self._iter_states(samples))
        with self._gated(scale, split) as gate:
            sums = [
                float(self.target.sample_discrepancies(self._forward(state, gate), numbers).double().sum())
                for state, numbers in self._picked[1]
            ]
        return float(distributed.all_reduce(torch.tensor(sum(sums), dtype=torch.float64))) / len(samples)

    def _iter_logits(self, scale: Tensor) -> Iterator[Tensor]:
        """Logits (b, C) of one batch after another, of all processes, with the group scaled by s (N,)."""
        for batch in range(len(self.chain.sizes)):
            with self._scaled(scale):
                logits = self.chain.outputs(batch)
            yield logits

    def _forward(self, state: Any, scale: Tensor) -> Tensor:
        with self._scaled(scale):
            output: Tensor = self.chain.run_from(state)
        return output

    @contextmanager
    def _scaled(self, scale: Tensor) -> Iterator[None]:
        self.gates.set(self.group.name, scale)
        try:
            yield
        finally:
            self.gates.set(self.group.name, None)

    @torch.no_grad()
    def batched_candidate_losses(self, state: Any, samples: Tensor, scales: Tensor) -> Tensor:
        """(c,) the mean discrepancy of a mini-batch with the group scaled by each of c scales (c, N), infinite where it
        is not a number. Several candidates share one forward, up to `at_once` samples."""
        b, losses = len(samples), []
        for some in torch.split(scales, max(1, self.max_forward_samples // max(1, b))) if b else ():
            logits = self._forward(repeat_samples(state, len(some)), some.repeat_interleave(b, 0))
            D = self.target.sample_discrepancies(logits, samples.repeat(len(some)))
            losses.append(D.view(-1, b).sum(1).double())
        device = self.target.reference.device
        D = torch.cat(losses) if b else torch.zeros(len(scales), dtype=torch.float64, device=device)
        return torch.nan_to_num(distributed.all_reduce(D) / min(self.batch_size, self.samples), nan=math.inf, posinf=math.inf)

    def gradient(self, state: Any, samples: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient (N,) of a mini-batch's mean discrepancy with respect to the scales, from one backward pass
        (appendix 5.4's ancillary parameters), and the mini-batch's gap (scalar). Both are float64 on the device."""
        sums = torch.zeros(self.size + 1, dtype=torch.float64, device=self.target.reference.device)
        if len(samples):
            scale = scale.detach().clone().requires_grad_()
            with torch.enable_grad():
                logits = self._forward(state, scale)
                (gradient,) = torch.autograd.grad(self.target.sample_discrepancies(logits, samples).sum(), scale)
            sums[:-1], sums[-1] = gradient, self.target.sample_gaps(logits.detach(), samples).sum()
        mean = distributed.all_reduce(sums) / min(self.batch_size, self.samples)
        return mean[:-1], mean[-1]

    def taylor_importance(self) -> Tensor:
        """(N,) float64, on the CPU: of the derivative of the cross-entropy with the labels with respect to a scale per
        neuron at s = 1, the square of each batch's mean, and the mean of that over batches."""
        if self.target.labels is None:
            raise ZooError("First-order (Taylor) importance needs the labels of the pruning samples.")
        total = torch.zeros(self.size, dtype=torch.float64)
        for batch, size in enumerate(self.chain.sizes):
            labels = self.target.labels[self.chain.local_samples[batch].start : self.chain.local_samples[batch].stop]
            scale = torch.ones(self.size, device=self.target.reference.device, requires_grad=True)
            with torch.enable_grad():
                logits = self._forward(self.chain.state(batch), scale)[: len(labels)]
                (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum") / size, scale)
            total += distributed.all_reduce(gradient.double()).square().cpu()
        return total / len(self.chain.sizes)

    @torch.no_grad()
    def _run_readers(self, state: Any) -> None:
        """From before the group's readers to behind them, with no gate."""
        self.gates.set(self.group.name, None)
        self.chain.run_from(state, until=self.chain.stage_range(self.group)[1])
