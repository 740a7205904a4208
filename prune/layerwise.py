"""Pruning a whole network, group by group from input to output (Ye, Wu, Liu 2020, section 2.4, algorithms 1 and 2)."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path as FilePath
from typing import TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from zoo.errors import ZooError
from zoo.models.groups import NeuronGroup
from zoo.prune.allocation import Budget, Costs, allocate
from zoo.prune.checks import check_goal, checked_data, checked_widths, chosen_groups
from zoo.prune.costs import macs_of, parameters_of
from zoo.prune.cut import cut
from zoo.prune.discrepancy import Target
from zoo.prune.groupwise import PATHS, STATISTICAL, Method, Weights, path_of, prune_group
from zoo.prune.journal import Identity, Journal, Record, fingerprint
from zoo.prune.latency import latency_of
from zoo.prune.layer import Layer
from zoo.prune.looks import Looks
from zoo.prune.paths import Path
from zoo.prune.prices import curves
from zoo.prune.repair.finish import batch_norms, distil, recalibrate
from zoo.prune.repair.options import PLAIN, Repair
from zoo.prune.report import PruneReport
from zoo.prune.search import Search
from zoo.prune.steps import Steps
from zoo.prune.uniform import uniform_widths
from zoo.prune.workspace import Workspace, repairer

METHODS = ("combined", "fpgm", "gfs", "global", "l1", "local", "repaired", "taylor", "uniform")
MEMORY = 4 * 2**30  # bytes
REPORTED = 256  # samples that a group's report looks at where the widths are given
Model = TypeVar("Model", bound=nn.Module)


def prune(
    model: Model,
    data: tuple[Tensor, Tensor | None],
    *,
    eps: float | None = None,
    widths: Mapping[str, int] | None = None,
    budget: Budget | None = None,
    method: str = "combined",
    discrepancy: str = "cross_entropy",
    batch_size: int = 64,
    search: Search | None = None,
    repair: Repair | None = None,
    groups: Sequence[str] | None = None,
    memory: int = MEMORY,
    seed: int = 0,
    checkpoint: FilePath | str | None = None,
    known: FilePath | str | None = None,
    progress: bool = False,
) -> tuple[Model, PruneReport]:
    """A smaller network that imitates `model`, and a report of what was done. `model` itself is not touched.

    From input to output each neuron group is pruned as far as the cross-entropy on the pruning data stays within eps
    of that of the network just before this group was pruned. With method "combined" local and global imitation both
    try, the one that keeps fewer neurons wins, and a tie goes to the smaller discrepancy. A group that cannot meet
    eps stays whole, and the report says so.

    model        offers neuron_groups(); stages() makes it faster (zoo.models.groups)
    data         inputs (M, ...) and labels (M,), on the model's device; with labels None or not integer, eps bounds
                 the discrepancy itself
    eps          tolerance in nats (section 3.2); or give `widths`, or `budget`
    widths       group name -> neurons to keep at most, instead of eps; groups that are not named stay whole
    budget       MACs, parameters or milliseconds for the whole network: how many neurons each group keeps follows from
                 one price for all (zoo.prune.Budget); for methods that rank neurons in each group
    method       combined, local or global imitation; repaired (neurons chosen by the error that is left when their
                 readers are solved anew); the baselines gfs (greedy forward selection, equal weights, local), l1 (Li et
                 al. 2017), fpgm (He et al. 2019), taylor (Molchanov et al. 2019, with labels), uniform (the same part
                 of every group, the largest L1 norms; the whole network may raise the cross-entropy by eps times the
                 number of groups)
    discrepancy  cross_entropy or squared_error, what global imitation minimises (zoo.prune.discrepancy)
    batch_size   of a mini-batch of the global search, and of every forward at most; but on a GPU up to 16 candidates of
                 the global search share one
    search       how much work the searches may do (zoo.prune.Search); zoo.prune.PAPER is the paper's setting, hours
                 on a CPU
    repair       what is done beyond the paper (zoo.prune.Repair): by default nothing, and all but the last steps for
                 method "repaired"
    groups       names of the groups to prune; the others stay whole
    memory       bytes for what is kept in front of a layer; past it stages are run again
    checkpoint   a file that holds the finished groups: a killed run, called again alike, goes on from there
    known        a file for what other goals for the same network, data and settings can take over: what a budget needs
                 to know of each group, and for another eps what was seen of a group behind the same choices before it;
                 the report names the groups for which something was reused

    The same seed gives the same network. Raises ZooError for input that cannot be used.
    """
    inputs, labels = checked_data(model, data)
    check_goal({"eps": eps, "widths": widths, "budget": budget}, METHODS, method, discrepancy)
    how = Method(method, search or Search(), repair or (Repair() if method == "repaired" else PLAIN))
    how.check(budgeted=budget is not None)
    if batch_size < 1:
        raise ZooError(f"batch_size is {batch_size}: give 1 or more samples.")
    if torch.is_inference_mode_enabled():
        raise ZooError("Pruning takes gradients: call it outside torch.inference_mode().")
    if how.repair.recalibrate and len(inputs) < 2:
        raise ZooError("Batch norms are recalibrated from 2 samples at least, and well from a hundred.")
    if how.repair.recalibrate and not batch_norms(model):
        raise ZooError("There is no batch norm with statistics to recalibrate in this network: leave that step out.")
    settings = {
        "method": method, "discrepancy": discrepancy, "batch_size": batch_size, "search": asdict(how.search),
        "repair": asdict(how.repair), "seed": seed,
    }  # fmt: skip
    report = PruneReport(method, eps, discrepancy, seed, len(inputs), budget=None if budget is None else asdict(budget))
    with Workspace(
        model, inputs, labels, discrepancy=discrepancy, batch_size=batch_size, memory=memory, seed=seed
    ) as space:
        chosen = chosen_groups(space.groups, groups)
        wanted = checked_widths(chosen, widths)
        names = [group.name for group in chosen]
        goal = {"eps": eps, "widths": wanted, "budget": None if budget is None else asdict(budget), "groups": names}
        steps = Steps(space, report)

        def identity(file: FilePath | str | None, goal: Mapping[str, object]) -> Identity:
            outputs = () if file is None else tuple(steps.reference[0].flatten().tolist())
            return Identity("" if file is None else fingerprint(model, inputs, labels, {**settings, **goal}), outputs)

        journal = Journal(None if checkpoint is None else FilePath(checkpoint), identity(checkpoint, goal))
        prices = identity(known, {"repair": how.of_prices()})
        record = Record(None if known is None else FilePath(known), prices)
        weights = space.output_weights(how.repair, seed) if method in STATISTICAL else None
        resumed = len(journal.done)
        if budget is not None:
            wanted = _within(space, chosen, how, weights, budget, journal, record, report, progress=progress)
        elif method == "uniform" and wanted is None:
            assert eps is not None  # for the type checker
            target = Target(discrepancy, steps.reference, space.labels)
            wanted = uniform_widths(chosen, space.chain(), space.gates, target, eps * len(chosen))
        walk = Walk(space, how, weights, eps, wanted, seed)
        scales = walk.run(chosen, steps.reference, journal, record, report, progress=progress)
        small = _cut(model, space, scales, repaired=how.repair.readers)
        steps.note("pruned", small, resumed=resumed)
        if how.repair.recalibrate:
            recalibrate(small, space.inputs, together=space.together)
            steps.note("batch norms recalibrated", small)
        if how.repair.distil_epochs:
            teacher = copy.deepcopy(model).eval().requires_grad_(False)
            epochs = how.repair.distil_epochs
            distil(small, teacher, space.inputs, epochs=epochs, seed=seed, kind=discrepancy, progress=progress)
            steps.note("distilled", small)
    return small.eval(), report


def _within(
    space: Workspace, chosen: list[NeuronGroup], how: Method, weights: Weights | None,
    budget: Budget, journal: Journal, record: Record, report: PruneReport, *, progress: bool,
) -> dict[str, int]:  # fmt: skip
    """The widths that meet the budget, and what they cost in the report."""
    costs: Costs
    if budget.kind == "macs":
        costs = macs_of(space.model, space.groups, space.inputs[:1])
    elif budget.kind == "parameters":
        costs = parameters_of(space.model, space.groups)
    else:
        costs = latency_of(space, chosen, progress=progress)

    def paths(layer: Layer) -> Path:
        if how.repair.readers or how.name == "repaired":
            layer.repairer = repairer(layer, weights)
        return path_of(how, layer, weights)

    widths = journal.widths
    if widths is None and costs({}) <= budget.bound(costs({})):
        widths = {group.name: group.size for group in chosen}
    if widths is None:
        report.reused.extend(group.name for group in chosen if group.name in record.values)
        widths = allocate(curves(space, chosen, paths, record, progress=progress), costs, budget)
    if journal.widths is None:
        journal.decide(widths)
    assert report.budget is not None  # for the type checker
    report.budget.update(bound=budget.bound(costs({})), before=costs({}), after=costs(widths))
    return widths


class Walk:
    """Group after group, from input to output, in the workspace."""

    def __init__(
        self, space: Workspace, how: Method, weights: Weights | None, eps: float | None,
        wanted: Mapping[str, int] | None, seed: int,
    ) -> None:  # fmt: skip
        self.space, self.how, self.weights, self.eps, self.wanted, self.seed = space, how, weights, eps, wanted, seed

    def run(
        self, chosen: list[NeuronGroup], reference: Tensor, journal: Journal, record: Record, report: PruneReport,
        *, progress: bool,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The scales (N,) of the groups that changed. reference (M, C): the unpruned network's logits."""
        scales: dict[str, Tensor] = {}
        chain = self.space.chain()
        if self.wanted is not None and self.how.name in PATHS and self.how.name != "taylor":
            reference = reference[:REPORTED]  # the output is looked at for the report alone
        bar = tqdm(chosen, "prune", disable=None if progress else True, leave=False)
        for index, group in enumerate(bar):
            bar.set_postfix_str(group.name)
            started = time.perf_counter()
            layer = self.space.layer(group, chain, reference)
            layer.looks = Looks(record, group.name, scales) if self.wanted is None else None
            keep = None if self.wanted is None else self.wanted.get(group.name, group.size)
            known = journal.done[index] if index < len(journal.done) else None
            if self.how.repair.readers and keep != group.size and not (known and known[0].winner == "whole"):
                layer.repairer = repairer(layer, self.weights)
            if known is None:
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
                row, scale = prune_group(layer, self.how, self.eps, keep, self.weights, generator)
            else:
                row, scale = known
            if row.winner != "whole":
                gate, reference = self._settle(layer, scale)
                scales[group.name] = gate
                gap, discrepancy = layer.target.compare(reference)
                row = replace(row, discrepancy=discrepancy, gap=gap)
            if known is None:
                row = replace(row, seconds=time.perf_counter() - started)
                journal.add(row, scale)
                if layer.looks is not None:
                    layer.looks.keep()
                    report.reused.extend([group.name] if layer.looks.reused else [])
            report.groups.append(row)
        return scales

    def _settle(self, layer: Layer, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Leave the group as it was found best; its gate (N,), and the logits with it, as many as the reference has."""
        samples = len(layer.target.reference)
        if layer.repairer is None:
            whole = samples == sum(layer.chain.sizes)
            reference = layer.logits(scale) if whole else layer.forward(scale, samples)
        else:
            kept = scale > 0
            scale = kept.double()
            layer.repairer.put(layer.repairer.solve(kept, anew=True))
            reference = layer.forward(scale, samples)
        self.space.gates.set(layer.group.name, scale)
        return scale, reference


def _cut(model: Model, space: Workspace, scales: Mapping[str, Tensor], *, repaired: bool) -> Model:
    """The smaller network: that of the model given, with the readers' weights of the workspace if they were solved."""
    if not repaired:
        return cut(model, scales).eval()
    whole = copy.deepcopy(model)
    whole.load_state_dict(space.model.state_dict())
    return cut(whole, scales).eval()

