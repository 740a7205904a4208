"""Losses and gradients on mini-batches, for the global search and for Taylor importance."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo import distributed
from zoo.errors import ZooError
from zoo.prune.engine.activation_cache import concatenate, repeat_samples
from zoo.prune.engine.gated_group import GatedGroup


class MinibatchLosses(GatedGroup):
    """Discrepancies of candidate scales and gradients with respect to scales, both through the gates alone: no reader
    is reconstructed for them.

    Of several processes each computes the part of a mini-batch that it holds, and all get the same results.
    """

    def minibatch(self, generator: torch.Generator) -> tuple[Any, Tensor]:
        """A random mini-batch: the state in front of the readers, and the indices (b,) of its samples; both of this
        process's part, where the state is None if that part is empty."""
        drawn = torch.randperm(self.num_choosers, generator=generator)[: self.batch_size].sort().values
        drawn += self.first_chooser
        parts = list(self.iter_states(drawn))
        if not parts:
            return None, drawn[:0]
        return concatenate([state for state, _ in parts]), torch.cat([indices for _, indices in parts])

    @torch.no_grad()
    def batched_candidate_losses(self, state: Any, samples: Tensor, scales: Tensor) -> Tensor:
        """(c,) float64, the mean discrepancy of a mini-batch with the group scaled by each of c candidates (c, N);
        infinite where it is NaN. One forward pass takes several candidates, up to `max_forward_samples` samples."""
        b, losses = len(samples), []
        for some in torch.split(scales, max(1, self.max_forward_samples // max(1, b))) if b else ():
            logits = self.forward(repeat_samples(state, len(some)), some.repeat_interleave(b, 0))
            D = self.target.sample_discrepancies(logits, samples.repeat(len(some)))
            losses.append(D.view(-1, b).sum(1).double())
        device = self.target.reference.device
        D = torch.cat(losses) if b else torch.zeros(len(scales), dtype=torch.float64, device=device)
        return torch.nan_to_num(distributed.all_reduce(D) / self._minibatch_size, nan=math.inf, posinf=math.inf)

    def gradient(self, state: Any, samples: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient (N,) of a mini-batch's mean discrepancy with respect to the scales s (N,), and the mini-batch's
        gap (scalar); both float64 on the device, from one backward pass (Ye et al. 2020, appendix 5.4)."""
        sums = torch.zeros(self.size + 1, dtype=torch.float64, device=self.target.reference.device)
        if len(samples):
            scale = scale.detach().clone().requires_grad_()
            with torch.enable_grad():
                logits = self.forward(state, scale)
                (gradient,) = torch.autograd.grad(self.target.sample_discrepancies(logits, samples).sum(), scale)
            sums[:-1], sums[-1] = gradient, self.target.sample_gaps(logits.detach(), samples).sum()
        mean = distributed.all_reduce(sums) / self._minibatch_size
        return mean[:-1], mean[-1]

    def taylor_importance(self) -> Tensor:
        """(N,) float64 on the CPU: the mean over batches of (dL/ds_i)^2 at s = 1, where L is the batch's mean
        cross-entropy with the labels (Molchanov et al. 2019, Importance Estimation for Neural Network Pruning).

        Raises ZooError without labels.
        """
        if self.target.labels is None:
            raise ZooError("First-order (Taylor) importance needs the labels of the pruning samples.")
        total = torch.zeros(self.size, dtype=torch.float64)
        for batch in self.chooser_batches:
            size = self.activations.sizes[batch]
            local = self.activations.local_samples[batch]
            labels = self.target.labels[local.start : local.stop]
            scale = torch.ones(self.size, device=self.target.reference.device, requires_grad=True)
            with torch.enable_grad():
                logits = self.forward(self.activations.state(batch), scale)[: len(labels)]
                (gradient,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum") / size, scale)
            total += distributed.all_reduce(gradient.double()).square().cpu()
        return total / len(self.chooser_batches)

    @property
    def _minibatch_size(self) -> int:
        return min(self.batch_size, self.num_choosers)
