"""Pruning a whole network, group by group from input to output (Ye, Wu, Liu 2020, section 2.4, algorithms 1 and 2)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from zoo.prune.budget import Costs, EpsTrials, allocate, costs_of, find_eps, sensitivity_curves
from zoo.prune.cutting import cut
from zoo.prune.engine import PruningSession, Target
from zoo.prune.layerwise import LayerwisePass, PassResult
from zoo.prune.network_report import NetworkReport
from zoo.prune.options import Budget, Options, Runtime, check_goal, default_method
from zoo.prune.postprocess import distil, recalibrate
from zoo.prune.report import PruneReport
from zoo.prune.resume import CacheFile, Fingerprint, MatrixCache, ResumeFile, hash_inputs
from zoo.prune.samples import Data, checked_samples
from zoo.prune.search import get_method, resolve_config
from zoo.prune.validation import (
    check_network,
    check_same_inputs_on_all_ranks,
    check_widths,
    groups_by_name,
)
from zoo.utils import check_seed

Model = TypeVar("Model", bound=nn.Module)


def prune(
    model: Model,
    data: Data,
    *,
    eps: float | None = None,
    widths: Mapping[str, int] | None = None,
    budget: Budget | None = None,
    method: str | None = None,
    options: Options | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    runtime: Runtime | None = None,
) -> tuple[Model, PruneReport]:
    """A smaller network that imitates `model`, and a report of what was done. `model` itself is not changed.

    From input to output each neuron group is pruned as far as the cross-entropy on the pruning data stays within eps
    of that of the network just before this group was pruned. With method "combined" local and global imitation are both
    run, the one that keeps fewer neurons wins, and a tie goes to the smaller discrepancy. A group that cannot meet eps
    stays whole, and the report says so.

    model    offers neuron_groups(); stages() makes it faster (zoo.models.groups)
    data     inputs (M, ...) and class labels (M,), tensors or numpy arrays; or a DataLoader or other iterable of such
             batches. All are held in memory. Without labels, or with labels that are not integers, eps bounds the
             discrepancy
    eps      tolerance for each group in nats (section 3.2). Exactly one of eps, widths and budget is given
    widths   group name -> number of neurons to keep at most; groups that are not named stay whole
    budget   MACs, parameters or milliseconds for the whole network (`zoo.prune.Budget`). For methods that rank neurons
             the widths are allocated by Lagrangian relaxation; for combined, global and uniform by the eps, the same
             for all groups, that meets the budget
    method   how neurons are chosen, by name (zoo.prune.METHODS): combined, local or global imitation; repaired (by the
             error that remains after the readers' weights are reconstructed); the baselines gfs (greedy forward
             selection, equal weights, local), l1 (Li et al. 2017), fpgm (He et al. 2019), taylor (Molchanov et al.
             2019, with labels), random, and uniform (the same fraction of every group, the largest L1 norms; the whole
             network may raise the cross-entropy by eps times the number of groups); or a method registered with
             `zoo.prune.register_method`. None: repaired, and with the search of the paper (`zoo.prune.PAPER`) combined
    options  what else decides which network comes out (`zoo.prune.Options`)
    groups   names of the groups to prune; the others stay whole. None: all
    seed     the same seed gives the same network
    runtime  files, memory, progress (`zoo.prune.Runtime`): never changes which network comes out

    Where torch.distributed runs, every process calls this with the same arguments and all samples, computes its own
    shard of them, and gets the network that one process alone gets (`zoo.distributed`).

    Raises ZooError for input that cannot be used.
    """
    inputs, labels = checked_samples(model, data)
    check_seed(seed)
    check_goal(eps, widths, budget)
    config = resolve_config(method or default_method(options.search if options else None), options, budget)
    check_network(model, inputs, config)
    runtime = runtime or Runtime()
    goals = {"eps": eps, "widths": widths, "budget": None if budget is None else asdict(budget), "groups": groups}
    settings = {**config.cache_key(), "seed": seed, **goals, "steps": asdict(config.repair)}
    check_same_inputs_on_all_ranks(model, inputs, labels, settings)
    # Allocated widths come from curves that hold out samples of their own; given widths are judged by nobody.
    judges = eps is not None or (budget is not None and not get_method(config.name).allocates)
    holdout = config.search.holdout if judges else 0.0
    with PruningSession(
        model, inputs, labels, config, seed=seed, holdout=holdout, cache_bytes=runtime.cache_bytes
    ) as session:
        run = _Run(session, (inputs, labels), groups, runtime)
        if budget is None:
            outcome = run.at_goal(eps, widths)
        elif run.method.allocates:
            outcome = run.with_allocated_widths(budget)
        else:
            outcome = run.with_one_eps(budget)
        return run.finish(model, outcome)


@dataclass(frozen=True)
class _Outcome:
    """A finished pass: its result, its resume file, the eps of all groups and the report on the budget, if any."""

    result: PassResult
    resume: ResumeFile
    eps: float | None = None
    budget: dict[str, Any] | None = None


class _Run:
    """The parts of one call of `prune`, in an open session.

    data  inputs and labels in the order they were given, for fingerprints
    """

    def __init__(
        self, session: PruningSession, data: tuple[Tensor, Tensor | None], groups: Sequence[str] | None,
        runtime: Runtime,
    ) -> None:  # fmt: skip
        self.session, self.data, self.runtime, self.config = session, data, runtime, session.config
        self.method = get_method(self.config.name)
        self.groups = groups_by_name(session.groups, groups)
        self.names = [group.name for group in self.groups]
        self.network_report = NetworkReport(session)
        self.fisher = self._fisher_matrices() if self.method.gram else None
        self.reused: list[str] = []

    def at_goal(self, eps: float | None, widths: Mapping[str, int] | None) -> _Outcome:
        """A pass with these widths, or with this eps for every group."""
        if widths is not None:
            check_widths(self.groups, widths)
        resume = self._resume_file(self.runtime.resume_file, eps=eps, widths=widths)
        return _Outcome(self._pass(resume, eps=eps, widths=widths), resume, eps)

    def with_allocated_widths(self, budget: Budget) -> _Outcome:
        """A pass with the widths that the groups' sensitivity curves give within the budget."""
        costs = self._costs(budget)
        resume = self._resume_file(self.runtime.resume_file, budget=budget)
        if resume.widths is None:
            resume.set_widths(self._allocate(budget, costs))
        assert resume.widths is not None  # for the type checker
        result = self._pass(resume, widths=resume.widths, rounded=True)
        return _Outcome(result, resume, budget=_budget_report(budget, costs, resume.widths))

    def with_one_eps(self, budget: Budget) -> _Outcome:
        """The pass with the one eps for all groups that meets the budget. Each eps that is tried has a resume file."""
        costs = self._costs(budget)
        bound = budget.bound(costs({}))
        if costs({}) <= bound:
            unpruned = self.at_goal(None, {})
            return replace(unpruned, budget=_budget_report(budget, costs, {}))
        cache = None if self.runtime.cache_file is None else Path(self.runtime.cache_file).with_suffix(".eps.json")
        trials = EpsTrials(costs, self.names, self._cache_file(cache, {"groups": self.names}, judged=True))
        file = None if self.runtime.resume_file is None else Path(self.runtime.resume_file)
        tried: dict[float, _Outcome] = {}

        def widths_at(eps: float) -> dict[str, int]:
            if eps in tried:
                resume = tried[eps].resume
            else:
                resume = self._resume_file(file and file.with_name(f"{file.name}.eps-{eps:g}"), eps=eps)
            result = self._pass(resume, eps=eps)
            tried[eps] = _Outcome(result, resume, eps, _budget_report(budget, costs, result.widths))
            return result.widths

        eps = find_eps(lambda eps: trials.add(eps, widths_at(eps)), bound, trials.cached_costs())
        if eps not in tried or self.config.repair.update_weights:  # the session has the weights of the last pass
            widths_at(eps)
        return tried[eps]

    def finish(self, model: Model, outcome: _Outcome) -> tuple[Model, PruneReport]:
        """The smaller network after the last steps, and the report."""
        result, resume, config, session = outcome.result, outcome.resume, self.config, self.session
        if config.repair.update_weights:
            model = copy.deepcopy(model)
            model.load_state_dict(session.model.state_dict())
        small = cut(model, result.scales).eval()
        of_groups = sum((group.seconds for group in result.groups[resume.num_loaded :]), 0.0)
        self.network_report.record("pruned", small, elsewhere=of_groups)
        rounding = self.network_report.rounding(result.logits)
        self._last_steps(small)
        report = PruneReport(
            config.name, outcome.eps, config.discrepancy, session.seed, len(session.inputs), result.groups,
            self.network_report.steps, outcome.budget, self.reused, config.search.eval_dtype, rounding,
            held_out=session.num_judges if session.num_judges < len(session.inputs) else 0,
        )  # fmt: skip
        return small.eval(), report

    def _pass(
        self, resume: ResumeFile, *, eps: float | None = None, widths: Mapping[str, int] | None = None,
        rounded: bool = False,
    ) -> PassResult:  # fmt: skip
        """Prune the groups one after another, from the unpruned network on."""
        self.session.reset()
        reference = self.network_report.eval_logits
        if eps is not None and self.method.widths is not None:
            target = Target(self.config.discrepancy, reference, self.session.labels)
            widths, eps = self.method.widths(self.session, self.groups, target, eps), None
        layerwise = LayerwisePass(self.session, self.fisher, eps=eps, widths=widths, rounded=rounded)
        return layerwise.run(self.groups, reference, resume, progress=self.runtime.progress)

    def _fisher_matrices(self) -> dict[str, list[Tensor]] | None:
        """Those of the unpruned network, which serve every goal: read from their file, or computed."""
        if self.runtime.cache_file is None:
            return self.session.fisher_matrices()
        file = Path(self.runtime.cache_file).with_suffix(".fisher.safetensors")
        cache = MatrixCache(file, self._fingerprint({"fisher": True}, judged=True))
        if cache.matrices is None:
            matrices = self.session.fisher_matrices()
            if matrices is not None:
                cache.store(matrices)
            return matrices
        device = self.session.inputs.device
        return {name: [matrix.to(device) for matrix in group] for name, group in cache.matrices.items()}

    def _costs(self, budget: Budget) -> Costs:
        return costs_of(self.session, self.groups, budget, progress=self.runtime.progress)

    def _allocate(self, budget: Budget, costs: Costs) -> dict[str, int]:
        if costs({}) <= budget.bound(costs({})):
            return {group.name: group.size for group in self.groups}
        assert self.method.criterion is not None  # for the type checker
        cache = self._cache_file(self.runtime.cache_file, {}, judged=False)
        self.reused = [name for name in self.names if name in cache.values]
        curves = sensitivity_curves(
            self.session, self.groups, self.method.criterion, self.network_report.eval_logits, cache,
            fisher=self.fisher, progress=self.runtime.progress,
        )  # fmt: skip
        return allocate(curves, costs, budget, self.config.search.round_to)

    def _last_steps(self, small: nn.Module) -> None:
        session, repair = self.session, self.config.repair
        if repair.recalibrate:
            recalibrate(small, session.choosers, batch_size=session.forward_batch)
            self.network_report.record("batch norms recalibrated", small)
        if repair.distil_epochs:
            teacher = copy.deepcopy(session.original).eval().requires_grad_(False)
            distil(
                small, teacher, session.choosers, epochs=repair.distil_epochs, seed=session.seed,
                discrepancy=self.config.discrepancy, progress=self.runtime.progress,
            )  # fmt: skip
            self.network_report.record("distilled", small)

    def _resume_file(
        self, file: Path | str | None, *, eps: float | None = None, widths: Mapping[str, int] | None = None,
        budget: Budget | None = None,
    ) -> ResumeFile:  # fmt: skip
        round_to = self.config.search.round_to
        goal = {
            "eps": eps, "widths": None if widths is None else dict(widths),
            "budget": None if budget is None else {**asdict(budget), "round_to": round_to}, "groups": self.names,
        }  # fmt: skip
        fingerprint = self._fingerprint(goal, judged=eps is not None) if file else Fingerprint("", ())
        return ResumeFile(Path(file) if file else None, fingerprint)

    def _cache_file(self, file: Path | str | None, settings: Mapping[str, object], *, judged: bool) -> CacheFile:
        fingerprint = self._fingerprint(settings, judged=judged) if file else Fingerprint("", ())
        return CacheFile(Path(file) if file else None, fingerprint)

    def _fingerprint(self, more: Mapping[str, object], *, judged: bool) -> Fingerprint:
        """Of the settings and `more`. Only where gaps are compared with an eps (`judged`) does it matter how they are
        judged."""
        config = self.config
        if not judged:
            config = replace(config, search=replace(config.search, holdout=0.0, round_to=1))
        settings = {**config.cache_key(), "seed": self.session.seed, **more}
        outputs = tuple(self.network_report.reference[0].flatten().tolist())
        return Fingerprint(hash_inputs(self.session.original, *self.data, settings), outputs)


def _budget_report(budget: Budget, costs: Costs, widths: Mapping[str, int]) -> dict[str, Any]:
    """The budget, the bound that it means, and the cost before and after."""
    unpruned = costs({})
    return {**asdict(budget), "bound": budget.bound(unpruned), "before": unpruned, "after": costs(widths)}
