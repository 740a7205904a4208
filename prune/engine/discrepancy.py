"""How far a pruned network is from the one before: the D of the paper, and the gap that eps is held against."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_discrepancies(kind: str, logits: Tensor, reference: Tensor) -> Tensor:
    """Of each sample: logits and reference (b, C) -> (b,), 0 where they agree.

    cross_entropy  that between the reference's and the pruned network's class probabilities, less the reference's own
                   entropy (Ye et al. 2020, section 3.1)
    squared_error  |f_A(x) - F(x)|^2 (section 2)
    """
    if kind == "squared_error":
        return (logits - reference).square().sum(1)
    return F.kl_div(F.log_softmax(logits, 1), F.log_softmax(reference, 1), reduction="none", log_target=True).sum(1)


def discrepancy(kind: str, logits: Tensor, reference: Tensor) -> Tensor:
    """Summed over the samples (scalar)."""
    return sample_discrepancies(kind, logits, reference).sum()


class Target:
    """What the network just before a layer is pruned gives on the pruning data, and the labels.

    The gap of a pruned network is the mean cross-entropy with the labels after, less that before (section 3.2); for
    data without class labels it is the mean discrepancy.
    """

    def __init__(self, kind: str, reference: Tensor, labels: Tensor | None) -> None:
        self.kind = kind
        self.reference = reference  # (M, C)
        self.labels = labels  # (M,) or None
        self._before = None if labels is None else F.cross_entropy(reference, labels, reduction="none").double()

    def gap_and_discrepancy(self, logits: Tensor) -> tuple[float, float]:
        """(gap, discrepancy), both means over all M samples; infinite where logits (M, C) are not finite."""
        if not bool(torch.isfinite(logits).all()):
            return math.inf, math.inf
        D = float(discrepancy(self.kind, logits, self.reference)) / len(logits)
        if self.labels is None or self._before is None:
            return D, D
        after = F.cross_entropy(logits, self.labels, reduction="sum").double()
        return float(after - self._before.sum()) / len(logits), D

    def mean_discrepancy(self, logits: Tensor, samples: Tensor) -> Tensor:
        """Mean discrepancy (scalar, differentiable) of some samples (b,): logits (b, C)."""
        return discrepancy(self.kind, logits, self.reference[samples]) / len(logits)

    def sample_discrepancies(self, logits: Tensor, samples: Tensor) -> Tensor:
        """(b,) the discrepancy of each of some samples: logits (b, C)."""
        return sample_discrepancies(self.kind, logits, self.reference[samples])

    def sample_gaps(self, logits: Tensor, samples: Tensor) -> Tensor:
        """(b,) float64, the gap of each of some samples: logits (b, C). `compare` gives their mean over all."""
        if self.labels is None or self._before is None:
            return self.sample_discrepancies(logits, samples).double()
        after = F.cross_entropy(logits, self.labels[samples], reduction="none").double()
        return after - self._before[samples]
