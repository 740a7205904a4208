"""What each step of a run did to the whole network, on the pruning data."""

from __future__ import annotations

import time
from dataclasses import replace

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
        self._since = time.perf_counter()

    def record(self, name: str, model: nn.Module, *, elsewhere: float = 0.0) -> None:
        """Evaluate the network after a step. Its seconds are those since the last step, without the seconds that are
        reported `elsewhere`."""
        seconds = time.perf_counter() - self._since - elsewhere
        with torch.no_grad():
            logits = self._session.logits_of(model)
        judges = self._session.num_judges
        first = judges % len(logits)
        step = StepReport(name, *self._compare(logits, slice(first, None)), seconds)
        if first:
            discrepancy, gap = self._compare(logits, slice(judges))
            step = replace(step, held_out_discrepancy=discrepancy, held_out_gap=gap)
        self.steps.append(step)
        self._since = time.perf_counter()

    def _compare(self, logits: Tensor, samples: slice) -> tuple[float, float | None]:
        """The discrepancy and the gap of some samples; no gap without labels."""
        labels = None if self._session.labels is None else self._session.labels[samples]
        target = Target(self._session.config.discrepancy, self.reference[samples], labels)
        gap, discrepancy = target.gap_and_discrepancy(logits[samples])
        return discrepancy, None if labels is None else gap

    def rounding(self, logits: Tensor) -> float | None:
        """By how much eval_dtype moved the gap of the pruned network: its gap in eval_dtype, from `logits` (M, C),
        minus that of the first step, on the samples that judge. None in float32, or where the logits are of fewer
        samples."""
        judges = self._session.num_judges
        if self.eval_logits is self.reference or len(logits) < judges:
            return None
        target = Target(self._session.config.discrepancy, self.eval_logits, self._session.labels)
        step = self.steps[0]
        first = (step.held_out_discrepancy, step.held_out_gap) if judges < len(self.reference) else (None, None)
        discrepancy, gap = (step.discrepancy, step.gap) if first[0] is None else first
        before = discrepancy if gap is None else gap
        assert before is not None  # for the type checker
        return target.gap_and_discrepancy(logits[:judges])[0] - before
