"""What each step did to the whole network, on the pruning data."""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor, nn

from zoo.prune.engine import PruningSession, Target
from zoo.prune.report import PruneReport, StepReport


class Steps:
    """Compares the network after each step with the unpruned one, and notes it in the report."""

    def __init__(self, space: PruningSession, report: PruneReport) -> None:
        self.space = space
        self.report = report
        self.seen = space.logits(space.activation_cache())  # (M, C) in the precision that the groups are looked at in
        exact = space.precision == torch.float32
        self.reference = self.seen if exact else space.run(space.model)
        self.target = Target(space.discrepancy, self.reference, space.labels)
        self._since = time.perf_counter()

    def rounded(self, report: PruneReport, logits: Tensor | None) -> PruneReport:
        """The report with what the precision of the looks did to the gap of the pruned network; logits (M, C): its own
        in that precision. As it was where fewer samples were looked at."""
        if self.seen is self.reference or logits is None or len(logits) < len(self.seen):
            return report
        looked = Target(self.space.discrepancy, self.seen, self.space.labels).gap_and_discrepancy(logits)[0]
        step = report.steps[0]
        return replace(report, rounded=looked - (step.discrepancy if step.gap is None else step.gap))

    def note(self, name: str, model: nn.Module, *, resumed: int = 0) -> None:
        """Look at the network after a step; its seconds are those since the last note, without those of groups. An
        earlier process did the first `resumed` of these."""
        seconds = time.perf_counter() - self._since
        if not self.report.steps:
            seconds -= sum(group.seconds for group in self.report.groups[resumed:])
        with torch.no_grad():
            logits = self.space.run(model)
        gap, discrepancy = self.target.gap_and_discrepancy(logits)
        known = self.space.labels is not None
        self.report.steps.append(StepReport(name, discrepancy, gap if known else None, seconds))
        self._since = time.perf_counter()
