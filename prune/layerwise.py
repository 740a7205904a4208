"""The walk over a network: group after group, from input to output (Ye, Wu, Liu 2020, section 2.4, algorithm 2)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor
from tqdm import tqdm

from zoo import distributed
from zoo.models import NeuronGroup
from zoo.prune.engine import EvaluationCache, GroupEvaluator, PruningSession, repairer
from zoo.prune.report import PruneReport
from zoo.prune.resume import Journal, Record
from zoo.prune.search import PATHS, Method, Weights, prune_group
from zoo.utils import generator_for

REPORTED = 256  # samples that a group's report looks at where the widths are given


class Walk:
    """Group after group, from input to output, in the workspace."""

    def __init__(
        self, space: PruningSession, how: Method, weights: Weights | None, eps: float | None,
        wanted: Mapping[str, int] | None, seed: int,
    ) -> None:  # fmt: skip
        self.space, self.how, self.weights, self.eps, self.wanted, self.seed = space, how, weights, eps, wanted, seed
        self.logits: Tensor | None = None  # (M, C) or of the first samples, of the network with the groups pruned

    def run(
        self, chosen: list[NeuronGroup], reference: Tensor, journal: Journal, record: Record, report: PruneReport,
        *, progress: bool,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The scales (N,) of the groups that changed. reference (M, C): the unpruned network's logits."""
        scales: dict[str, Tensor] = {}
        chain = self.space.activation_cache()
        if self.wanted is not None and self.how.name in PATHS and self.how.name != "taylor":
            reference = reference[:REPORTED]  # the output is looked at for the report alone
        bar = tqdm(chosen, "prune", disable=None if progress else True, leave=False)
        for index, group in enumerate(bar):
            bar.set_postfix_str(group.name)
            started = time.perf_counter()
            layer = self.space.evaluator(group, chain, reference)
            layer.looks = EvaluationCache(record, group.name, scales) if self.wanted is None else None
            keep = None if self.wanted is None else self.wanted.get(group.name, group.size)
            known = journal.done[index] if index < len(journal.done) else None
            if self.how.repair.readers and keep != group.size and not (known and known[0].winner == "whole"):
                layer.repairer = repairer(layer, self.weights)
            if known is None:
                generator = generator_for(self.seed, index)
                found = prune_group(layer, self.how, self.eps, keep, self.weights, generator)
                row, scale = distributed.broadcast_object(found)  # all alike
            else:
                row, scale = known
            if row.winner != "whole":
                gate, reference = self._settle(layer, scale)
                scales[group.name] = gate
                gap, discrepancy = layer.target.gap_and_discrepancy(reference)
                row = replace(row, discrepancy=discrepancy, gap=gap)
            if known is None:
                row = replace(row, seconds=time.perf_counter() - started)
                journal.add(row, scale)
                if layer.looks is not None:
                    layer.looks.keep()
                    report.reused.extend([group.name] if layer.looks.reused else [])
            report.groups.append(row)
        self.logits = reference
        return scales

    def _settle(self, layer: GroupEvaluator, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Leave the group as it was found best; its gate (N,), and the logits with it, as many as the reference has."""
        samples = len(layer.target.reference)
        if layer.repairer is None:
            whole = samples == sum(layer.chain.sizes)
            reference = layer.logits(scale) if whole else layer.forward(scale, samples)
        else:
            kept = scale > 0
            scale = kept.double()
            layer.repairer.apply(layer.repairer.solve(kept, warm_start=False))
            reference = layer.forward(scale, samples)
        self.space.gates.set(layer.group.name, scale)
        return scale, reference
