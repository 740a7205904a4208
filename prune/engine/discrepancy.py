"""How far a pruned network is from the network before: the discrepancy D of the paper, and the gap that eps bounds."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sample_discrepancies(kind: str, logits: Tensor, reference: Tensor) -> Tensor:
    """(b,) the discrepancy of each sample between logits and reference (b, C); 0 where they agree.

    cross_entropy  KL(softmax(reference) || softmax(logits)): the cross-entropy of the class probabilities, less the
                   entropy of the reference (Ye et al. 2020, section 3.1)
    squared_error  ||logits - reference||^2 (section 2)
    """
    if kind == "squared_error":
        return (logits - reference).square().sum(1)
    return F.kl_div(F.log_softmax(logits, 1), F.log_softmax(reference, 1), reduction="none", log_target=True).sum(1)


class Target:
    """What a pruned network is compared with: the logits of the network just before a group is pruned, and the labels.

    The gap of a pruned network is the rise of the mean cross-entropy with the labels (section 3.2); for data without
    class labels it is the mean discrepancy.

    kind       cross_entropy or squared_error (`sample_discrepancies`)
    reference  (M, C) logits
    labels     (M,) classes, or None
    """

    def __init__(self, kind: str, reference: Tensor, labels: Tensor | None) -> None:
        self.kind = kind
        self.reference = reference
        self.labels = labels
        self._before = None if labels is None else F.cross_entropy(reference, labels, reduction="none").double()

    def gap_and_discrepancy(self, logits: Tensor) -> tuple[float, float]:
        """The gap and the mean discrepancy of logits (m, C) of the first m samples; infinite where these are not
        finite."""
        if not bool(torch.isfinite(logits).all()):
            return math.inf, math.inf
        D = float(sample_discrepancies(self.kind, logits, self.reference[: len(logits)]).sum()) / len(logits)
        if self.labels is None or self._before is None:
            return D, D
        after = F.cross_entropy(logits, self.labels[: len(logits)], reduction="sum").double()
        return float(after - self._before[: len(logits)].sum()) / len(logits), D

    def gap_standard_error(self, logits: Tensor) -> float:
        """The standard error of the gap of logits (m, C) of the first m samples, as an estimate for all samples that
        there could be; 0 for a single one."""
        gaps = self.sample_gaps(logits, torch.arange(len(logits), device=logits.device))
        return float(gaps.std()) / math.sqrt(len(gaps)) if len(gaps) > 1 else 0.0

    def mean_discrepancy(self, logits: Tensor, samples: Tensor) -> Tensor:
        """The mean discrepancy (scalar) of the samples with indices (b,), whose logits are (b, C)."""
        return self.sample_discrepancies(logits, samples).sum() / len(logits)

    def sample_discrepancies(self, logits: Tensor, samples: Tensor) -> Tensor:
        """(b,) the discrepancy of each of the samples with indices (b,), whose logits are (b, C); differentiable."""
        return sample_discrepancies(self.kind, logits, self.reference[samples])

    def sample_gaps(self, logits: Tensor, samples: Tensor) -> Tensor:
        """(b,) float64, the gap of each of the samples with indices (b,), whose logits are (b, C)."""
        if self.labels is None or self._before is None:
            return self.sample_discrepancies(logits, samples).double()
        after = F.cross_entropy(logits, self.labels[samples], reduction="none").double()
        return after - self._before[samples]
