"""One group in its network during pruning: try scales, look at the gap."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from zoo.models.groups import NeuronGroup
from zoo.prune.chain import Chain, join, repeat, take
from zoo.prune.discrepancy import Target
from zoo.prune.gates import Gates
from zoo.prune.gram import gram
from zoo.prune.paths import Path, smallest

# A mean of fewer samples than this says too little about its own error.
ENOUGH = 32


class Layer:
    """A group, the data in front of its readers, and the target it is held against.

    Trials start in front of the group's first reader; nothing before it is computed again.
    """

    def __init__(self, group: NeuronGroup, chain: Chain, gates: Gates, target: Target, *, batch_size: int) -> None:
        self.group = group
        self.chain = chain
        self.gates = gates
        self.target = target
        self.batch_size = batch_size
        # Many samples fill a GPU; on a CPU few stay in its caches.
        self.at_once = 16 * batch_size if target.reference.is_cuda else batch_size
        self._logits: dict[bytes, Tensor] = {}

    @property
    def size(self) -> int:
        return self.group.size

    @torch.no_grad()
    def logits(self, scale: Tensor) -> Tensor:
        """Logits (M, C) of the whole pruning data with the group scaled by s (N,); computed once for each scale."""
        key = scale.numpy(force=True).tobytes()
        if key not in self._logits:
            self._logits[key] = torch.cat([self._forward(state, scale) for state in self.chain.states()])
        return self._logits[key]

    @torch.no_grad()
    def gap(self, scale: Tensor, eps: float) -> float:
        """The gap that `compare` gives; but as soon as the batches seen leave no doubt that it is above eps, theirs.

        No doubt: their mean lies above eps by 4 of its standard errors. Most numbers of neurons that a search looks at
        are far off, and that shows early.
        """
        key = scale.numpy(force=True).tobytes()
        if key in self._logits:
            return self.compare(scale)[0]
        total, parts, gaps = sum(self.chain.sizes), [], scale.new_zeros(0)
        for state in self.chain.states():
            parts.append(self._forward(state, scale))
            samples = len(gaps) + torch.arange(len(parts[-1]), device=parts[-1].device)
            gaps = torch.cat([gaps.to(parts[-1].device), self.target.gaps(parts[-1], samples)])
            if ENOUGH <= len(gaps) < total:
                error = gaps.std() * math.sqrt((1 / len(gaps)) - (1 / total))
                if not float(gaps.mean() - 4 * error) <= eps:  # NaN included
                    mean = float(gaps.mean())
                    return mean if math.isfinite(mean) else math.inf
        self._logits[key] = torch.cat(parts)
        return self.compare(scale)[0]

    def compare(self, scale: Tensor) -> tuple[float, float]:
        """(gap, discrepancy) on the whole pruning data with the group scaled by s (N,)."""
        return self.target.compare(self.logits(scale))

    @torch.no_grad()
    def glance(self, scale: Tensor) -> float:
        """The discrepancy on the first batch alone: a cheap look before `compare`."""
        logits = self._forward(self.chain.state(0), scale)
        return float(self.target.batch_discrepancy(logits, torch.arange(len(logits), device=logits.device)))

    def meet(self, path: Path, eps: float) -> Tensor | None:
        """The scales (N,) along a path with the smallest number of neurons whose gap is below eps, up to N / 64; None
        where no number of neurons but N meets it.

        Along one path the discrepancy at the output is nearly proportional to the local one (MobileNetV2: within a
        factor of two while both fall a hundredfold), so a glance at one number of neurons says where to look first. The
        gap, which the labels tell, is mostly one to four times the discrepancy.
        """
        N = path.size
        local = path.error(7 * N // 8) if N > 7 else None
        ratio = 2 * self.glance(path.scale(7 * N // 8)) / local if local else None
        n = smallest(
            N, lambda n: self.gap(path.scale(n), eps), eps, resolution=N // 64, error=path.error,
            ratio=ratio if ratio is not None and 0 < ratio < math.inf else None,
        )  # fmt: skip
        return None if n == N else path.scale(n)

    def gram(self, *, part: float = 1.0, generator: torch.Generator | None = None) -> tuple[Tensor, float | None]:
        """The statistics G (N, N) of local imitation over the whole pruning data, on the CPU, and their sampling error
        (`zoo.prune.gram.gram`)."""
        _, end = self.chain.span(self.group)

        def passes() -> Iterator[Any]:
            for state in self.chain.states():
                yield lambda state=state: self._ungated(state, end)

        G, error = gram(self.group, passes(), part=part, generator=generator)
        return G.cpu(), error

    def minibatch(self, generator: torch.Generator) -> tuple[Any, Tensor]:
        """A random mini-batch: the state in front of the readers, and the numbers (b,) of its samples."""
        chosen = torch.randperm(sum(self.chain.sizes), generator=generator)[: self.batch_size].sort().values
        parts, start = [], 0
        for batch, size in enumerate(self.chain.sizes):
            inside = chosen[(chosen >= start) & (chosen < start + size)] - start
            if len(inside):
                parts.append(take(self.chain.state(batch), inside))
            start += size
        return join(parts), chosen

    def _forward(self, state: Any, scale: Tensor | None) -> Tensor:
        self.gates.set(self.group.name, scale)
        try:
            output: Tensor = self.chain.rest(state)
        finally:
            self.gates.set(self.group.name, None)
        return output

    @torch.no_grad()
    def try_on(self, state: Any, samples: Tensor, scales: Tensor) -> Tensor:
        """(c,) the mean discrepancy of a mini-batch with the group scaled by each of c scales (c, N), infinite where it
        is not a number. Several candidates share one forward, up to `at_once` samples."""
        b, losses = len(samples), []
        for some in torch.split(scales, max(1, self.at_once // b)):
            logits = self._forward(repeat(state, len(some)), some.repeat_interleave(b, 0))
            D = self.target.discrepancies(logits, samples.repeat(len(some)))
            losses.append(D.view(-1, b).mean(1).double())
        return torch.nan_to_num(torch.cat(losses), nan=math.inf, posinf=math.inf)

    def gradient(self, state: Any, samples: Tensor, scale: Tensor) -> tuple[Tensor, float]:
        """The gradient (N,) of a mini-batch's mean discrepancy with respect to the scales, from one backward pass
        (appendix 5.4's ancillary parameters), and the mini-batch's gap."""
        scale = scale.detach().clone().requires_grad_()
        with torch.enable_grad():
            logits = self._forward(state, scale)
            D = self.target.batch_discrepancy(logits, samples)
            (gradient,) = torch.autograd.grad(D, scale)
        return gradient.double(), float(self.target.gaps(logits.detach(), samples).mean())

    @torch.no_grad()
    def _ungated(self, state: Any, end: int) -> Any:
        self.gates.set(self.group.name, None)
        return self.chain.rest(state, until=end)
