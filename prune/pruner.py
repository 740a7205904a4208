"""Pruning a whole network, group by group from input to output (Ye, Wu, Liu 2020, section 2.4, algorithms 1 and 2)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path as FilePath
from typing import Generic, TypeVar

from torch import Tensor, nn

from zoo.models import NeuronGroup
from zoo.prune.budget import Tried, allocate, at_one_eps, costs_of, curves
from zoo.prune.cutting import cut
from zoo.prune.engine import GroupEvaluator, PruningSession, Target, repairer
from zoo.prune.layerwise import Walk
from zoo.prune.network_report import Steps
from zoo.prune.options import PLAIN, Budget, Repair, Search
from zoo.prune.path import Path
from zoo.prune.postprocess import distil, recalibrate
from zoo.prune.report import PruneReport
from zoo.prune.resume import Identity, Journal, Record, fingerprint
from zoo.prune.search import PATHS, STATISTICAL, Method, Weights, path_of, uniform_widths
from zoo.prune.validation import alike, check_goal, check_steps, checked_data, checked_widths, chosen_groups
from zoo.utils import check_seed

METHODS = ("combined", "fpgm", "gfs", "global", "l1", "local", "repaired", "taylor", "uniform")
MEMORY = 4 * 2**30  # bytes
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
    budget       MACs, parameters or milliseconds for the whole network (zoo.prune.Budget): of methods that rank neurons
                 how many each group keeps follows from one price for all; for combined, global and uniform the one eps
                 is looked for that meets it
    method       combined, local or global imitation; repaired (neurons chosen by the error that is left when their
                 readers are solved anew); the baselines gfs (greedy forward selection, equal weights, local), l1 (Li et
                 al. 2017), fpgm (He et al. 2019), taylor (Molchanov et al. 2019, with labels), uniform (the same part
                 of every group, the largest L1 norms; the whole network may raise the cross-entropy by eps times the
                 number of groups)
    discrepancy  cross_entropy or squared_error, what global imitation minimises (zoo.prune.engine.discrepancy)
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

    Where torch.distributed runs, every process calls this with the same arguments and all samples, computes its own
    part of them, and gets the same network, that of one process (`zoo.distributed`).

    The same seed gives the same network. Raises ZooError for input that cannot be used.
    """
    inputs, labels = checked_data(model, data)
    check_seed(seed)
    check_goal({"eps": eps, "widths": widths, "budget": budget}, METHODS, method, discrepancy)
    how = Method(method, search or Search(), repair or (Repair() if method == "repaired" else PLAIN))
    how.check(budget)
    check_steps(model, inputs, how.repair, batch_size, how.search.look_precision)
    task = _Pass(model, inputs, labels, how, discrepancy, batch_size, memory, seed, known, progress)
    asked = None if budget is None else asdict(budget)
    goals = {"eps": eps, "widths": widths, "budget": asked, "groups": groups, "steps": asdict(how.repair)}
    alike(model, inputs, labels, {**task.settings(), **goals})
    if budget is None or method in PATHS:
        return task.walked(eps, widths, budget, groups, checkpoint)
    again = partial(
        prune, model, (inputs, labels), method=method, discrepancy=discrepancy, batch_size=batch_size, search=search,
        groups=groups, memory=memory, seed=seed, known=known, progress=progress,
    )  # fmt: skip
    with task.opened() as space:
        tried = Tried.of(space, groups, budget, known, task.fingerprint, progress=progress)
    return at_one_eps(again, budget, tried, how.repair, checkpoint)


@dataclass(frozen=True)
class _Pass(Generic[Model]):
    """Arguments of `prune`, checked: all but the goal."""

    model: Model
    inputs: Tensor
    labels: Tensor | None
    how: Method
    discrepancy: str
    batch_size: int
    memory: int
    seed: int
    known: FilePath | str | None
    progress: bool

    def settings(self) -> dict[str, object]:
        """What the scales depend on besides network, data and goal."""
        return {
            "method": self.how.name, "discrepancy": self.discrepancy, "batch_size": self.batch_size,
            "search": self.how.search.settings(), "repair": self.how.of_prices(), "seed": self.seed,
        }  # fmt: skip

    def fingerprint(self, more: Mapping[str, object]) -> str:
        """Of the pass with what else a result depends on."""
        return fingerprint(self.model, self.inputs, self.labels, {**self.settings(), **more})

    def opened(self) -> PruningSession:
        return PruningSession(
            self.model, self.inputs, self.labels, discrepancy=self.discrepancy, batch_size=self.batch_size,
            memory=self.memory, seed=self.seed, precision=self.how.search.look_precision,
        )  # fmt: skip

    def walked(
        self, eps: float | None, widths: Mapping[str, int] | None, budget: Budget | None,
        groups: Sequence[str] | None, checkpoint: FilePath | str | None,
    ) -> tuple[Model, PruneReport]:  # fmt: skip
        """One walk from input to output, cut and finished; a budget's widths are decided on before it."""
        how, seed, progress = self.how, self.seed, self.progress
        asked = None if budget is None else asdict(budget)
        looked = how.search.look_precision
        report = PruneReport(
            how.name, eps, self.discrepancy, seed, len(self.inputs), budget=asked, look_precision=looked
        )
        with self.opened() as space:
            chosen = chosen_groups(space.groups, groups)
            wanted = checked_widths(chosen, widths)
            goal = {"eps": eps, "widths": wanted, "budget": asked, "groups": [group.name for group in chosen]}
            steps = Steps(space, report)

            def identity(file: FilePath | str | None, goal: Mapping[str, object]) -> Identity:
                outputs = () if file is None else tuple(steps.reference[0].flatten().tolist())
                return Identity("" if file is None else self.fingerprint(goal), outputs)

            journal = Journal(None if checkpoint is None else FilePath(checkpoint), identity(checkpoint, goal))
            record = Record(None if self.known is None else FilePath(self.known), identity(self.known, {}))
            weights = space.fisher_matrices(how.repair, seed) if how.name in STATISTICAL else None
            resumed = len(journal.done)
            if budget is not None:
                wanted = _within(space, chosen, how, weights, budget, journal, record, report, progress=progress)
            elif how.name == "uniform" and wanted is None:
                assert eps is not None  # for the type checker
                target = Target(self.discrepancy, steps.seen, space.labels)
                wanted = uniform_widths(chosen, space.activation_cache(), space.gates, target, eps * len(chosen), how.search.slack)
            walk = Walk(space, how, weights, eps, wanted, seed)
            scales = walk.run(chosen, steps.seen, journal, record, report, progress=progress)
            small = _cut(self.model, space, scales, repaired=how.repair.readers)
            steps.note("pruned", small, resumed=resumed)
            report = steps.rounded(report, walk.logits)
            _finish(small, self.model, space, how.repair, steps, seed=seed, progress=progress)
        return small.eval(), report


def _finish(
    small: nn.Module, model: nn.Module, space: PruningSession, repair: Repair, steps: Steps, *, seed: int, progress: bool
) -> None:
    """The last steps on the network that is cut, each reported apart."""
    if repair.recalibrate:
        recalibrate(small, space.inputs, batch_size=space.forward_batch)
        steps.note("batch norms recalibrated", small)
    if repair.distil_epochs:
        teacher = copy.deepcopy(model).eval().requires_grad_(False)
        distil(
            small, teacher, space.inputs, epochs=repair.distil_epochs, seed=seed, kind=space.discrepancy,
            progress=progress,
        )  # fmt: skip
        steps.note("distilled", small)


def _within(
    space: PruningSession, chosen: list[NeuronGroup], how: Method, weights: Weights | None,
    budget: Budget, journal: Journal, record: Record, report: PruneReport, *, progress: bool,
) -> dict[str, int]:  # fmt: skip
    """The widths that meet the budget, and what they cost in the report."""
    costs = costs_of(space, chosen, budget, progress=progress)

    def paths(layer: GroupEvaluator) -> Path:
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


def _cut(model: Model, space: PruningSession, scales: Mapping[str, Tensor], *, repaired: bool) -> Model:
    """The smaller network: that of the model given, with the readers' weights of the workspace if they were solved."""
    if not repaired:
        return cut(model, scales).eval()
    whole = copy.deepcopy(model)
    whole.load_state_dict(space.model.state_dict())
    return cut(whole, scales).eval()

