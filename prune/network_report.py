"""What each step of a run did to the whole network, on the pruning data."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from zoo.prune.engine import PruningSession, Target
from zoo.prune.report import StepReport


class NetworkReport:
    """Compares the network after each step with the unpruned network.

    reference    (M, C) logits of the unpruned network in float32
    eval_logits  (M, C) the same in the dtype that groups are evaluated in
    """

    def __init__(self, session: PruningSession) -> None:
        self.steps: list[StepReport] = []
        self._session = session
        self.eval_logits = session.logits(session.activation_cache())
        exact = session.precision == torch.float32
        self.reference = self.eval_logits if exact else session.logits_of(session.model)
        self._target = Target(session.config.discrepancy, self.reference, session.labels)
        self._since = time.perf_counter()

    def record(self, name: str, model: nn.Module, *, elsewhere: float = 0.0) -> None:
        """Evaluate the network after a step. Its seconds are those since the last step, without the seconds that are
        reported `elsewhere`."""
        seconds = time.perf_counter() - self._since - elsewhere
        with torch.no_grad():
            logits = self._session.logits_of(model)
        gap, discrepancy = self._target.gap_and_discrepancy(logits)
        labelled = self._session.labels is not None
        self.steps.append(StepReport(name, discrepancy, gap if labelled else None, seconds))
        self._since = time.perf_counter()

    def rounding(self, logits: Tensor) -> float | None:
        """By how much eval_dtype moved the gap of the pruned network: its gap in eval_dtype, from `logits` (M, C),
        minus that of the first step. None in float32, or where the logits are of fewer samples."""
        if self.eval_logits is self.reference or len(logits) < len(self.eval_logits):
            return None
        target = Target(self._session.config.discrepancy, self.eval_logits, self._session.labels)
        step = self.steps[0]
        return target.gap_and_discrepancy(logits)[0] - (step.discrepancy if step.gap is None else step.gap)
