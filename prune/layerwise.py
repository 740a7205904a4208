"""One pass over a network: group after group, from input to output (Ye, Wu, Liu 2020, section 2.4, algorithm 2)."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from zoo import distributed
from zoo.models import NeuronGroup
from zoo.prune.engine import GroupEvaluator, PruningSession
from zoo.prune.report import GroupReport
from zoo.prune.resume import ResumeFile
from zoo.prune.search import GroupGoal, choose_neurons, get_method
from zoo.utils import generator_for, progress_bar

REPORT_SAMPLES = 256  # samples used for reports when the widths are given


@dataclass(frozen=True)
class PassResult:
    """The result of one pass over the groups.

    scales  (N,) of the groups that changed
    groups  their reports, those of unchanged groups included
    logits  (M, C) of the network with the groups pruned, or of the first samples where the widths were given
    """

    scales: dict[str, Tensor]
    groups: list[GroupReport]
    logits: Tensor

    @property
    def widths(self) -> dict[str, int]:
        """The number of neurons that each group keeps."""
        return {group.name: group.after for group in self.groups}


class LayerwisePass:
    """Prunes group after group of the session's network; the next group sees the network with all before it pruned.

    eps, widths  the tolerance for every group, or the number of neurons of each (a group that is not named stays
                 unpruned); one of the two
    rounded      whether the widths are such as the settings' `round_to` allows, and have to be in the end
    fisher       group name -> Fisher information at each reader's output, or None
    """

    def __init__(
        self, session: PruningSession, fisher: Mapping[str, Sequence[Tensor]] | None, *, eps: float | None = None,
        widths: Mapping[str, int] | None = None, rounded: bool = False,
    ) -> None:  # fmt: skip
        self.session, self.fisher, self.eps, self.widths, self.rounded = session, fisher, eps, widths, rounded
        self.method = get_method(session.config.name)

    def run(
        self, groups: Sequence[NeuronGroup], reference: Tensor, resume: ResumeFile, *, progress: bool = False
    ) -> PassResult:
        """Prune the groups in this order. reference (M, C): the unpruned network's logits. Groups that the resume file
        holds are not searched again."""
        if self.widths is not None and self.method.allocates and not self.method.labels:
            reference = reference[:REPORT_SAMPLES]  # only the report needs the network's output
        elif self.method.criterion is not None and not self.method.labels:
            reference = reference[: self.session.num_judges]  # only the global search minimises at the output
        result = PassResult({}, [], reference)
        activations = self.session.activation_cache()
        bar = progress_bar(groups, "prune", show=progress)
        for index, group in enumerate(bar):
            before = sum(report.before for report in result.groups)
            kept = sum(report.after for report in result.groups)
            bar.set_postfix_str(f"{group.name}; {kept} of {before} neurons kept so far" if before else group.name)
            started = time.perf_counter()
            neurons = None if self.widths is None else self.widths.get(group.name, group.size)
            finished = resume.finished(index, group.name, group.size)
            is_unpruned = finished[0].winner == "whole" if finished else neurons == group.size
            evaluator = self.session.evaluator(
                group, activations, reference, fisher=self.fisher,
                reconstruct=self.session.config.repair.update_weights and not is_unpruned,
            )  # fmt: skip
            if finished is None:
                generator = generator_for(self.session.seed, index)
                report_and_scale = choose_neurons(evaluator, GroupGoal(self.eps, neurons, self.rounded), generator)
                report, scale = distributed.broadcast_object(report_and_scale)  # the same on all ranks
            else:
                report, scale = finished
            if report.winner != "whole":
                result.scales[group.name], reference = self._apply(evaluator, scale)
                judges = reference if self.eps is None else reference[: self.session.num_judges]
                gap, discrepancy = evaluator.target.gap_and_discrepancy(judges)
                report = replace(report, discrepancy=discrepancy, gap=gap)
            if finished is None:
                report = replace(report, seconds=time.perf_counter() - started)
                resume.add(report, scale)
            result.groups.append(report)
            if progress:
                bar.write(_line(report, self.eps), file=sys.stderr)
        return replace(result, logits=reference)

    def _apply(self, evaluator: GroupEvaluator, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Prune the group for the rest of the pass. Returns its gate (N,), and the network's logits of as many samples
        as the reference has."""
        samples = len(evaluator.target.reference)
        if evaluator.reconstruction is None:
            are_judges = samples == evaluator.judges
            logits = evaluator.logits(scale) if are_judges else evaluator.first_logits(scale, samples)
        else:
            mask = scale > 0
            scale = mask.double()
            evaluator.reconstruction.apply(evaluator.reconstruction.solve(mask, warm_start=False))
            logits = evaluator.first_logits(scale, samples)
        self.session.gates.set(evaluator.group.name, scale)
        return scale, logits


def _line(report: GroupReport, eps: float | None) -> str:
    """What was done to a group, as a line of progress."""
    kept = f"{report.before} > {report.after}"
    judged = f"judged {report.gap:+.4f}" if eps is not None else f"divergence {report.discrepancy:.4f}"
    return f"  {report.name:<14} {kept:<13} {judged}  {report.seconds:6.1f} s"
