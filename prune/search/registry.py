"""The registry of pruning methods: each has a name, and declares what it needs and what it gives.

A criterion that ranks the neurons of a group is registered where it is written, and is then a method everywhere:

    @register_method("random")
    def random_order(evaluator: GroupEvaluator, generator: torch.Generator) -> PruningPath:
        return PruningPath.from_ranking(torch.randperm(evaluator.size, generator=generator))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.errors import ZooError, suggest
from zoo.models import NeuronGroup
from zoo.prune.engine import GroupEvaluator, PruningSession, Target
from zoo.prune.options import PLAIN, Budget, MethodConfig, Options, Repair
from zoo.prune.path import PruningPath, allowed_widths


@dataclass(frozen=True)
class GroupGoal:
    """How far one group is to be pruned: to a gap below eps, or to a number of neurons; the other is None.

    rounded  whether that number is one that `round_to` allows, and fewer neurons have to be as well
    """

    eps: float | None = None
    neurons: int | None = None
    rounded: bool = False

    def scale_along(self, path: PruningPath, evaluator: GroupEvaluator) -> Tensor | None:
        """The scales (N,) on a path that meet the goal; None where only the unpruned group does."""
        if self.neurons is not None and self.rounded:
            return path.filled(self.neurons, allowed_widths(path.size, evaluator.config.search.round_to))
        if self.neurons is not None:
            return path.scale(self.neurons)
        assert self.eps is not None
        return evaluator.smallest_within_eps(path, self.eps)


Criterion = Callable[[GroupEvaluator, torch.Generator], PruningPath]
# Name of the search -> scales (N,) that meet the goal, or None where the search finds none.
Proposals = dict[str, Tensor | None]
GroupSearch = Callable[[GroupEvaluator, GroupGoal, torch.Generator], Proposals]
WidthsWithinEps = Callable[[PruningSession, Sequence[NeuronGroup], Target, float], dict[str, int]]


@dataclass(frozen=True)
class PruningMethod:
    """A way to choose the neurons that stay.

    name            what users call it
    search          proposes scales for one group and a goal; of several proposals the one with fewest neurons wins
    criterion       gives the path of a group, from which a budget's widths are allocated; None for a method that has no
                    ranking, and meets a budget by one eps for all groups
    widths          decides on the widths of all groups together for an eps; None for a method that goes group by group
    gram            chooses by local errors, which may be weighted by the Fisher information
    labels          needs the labels of the pruning samples
    reconstruction  chooses neurons for readers whose weights are reconstructed
    """

    name: str
    search: GroupSearch
    criterion: Criterion | None = None
    widths: WidthsWithinEps | None = None
    gram: bool = False
    labels: bool = False
    reconstruction: bool = False

    @property
    def allocates(self) -> bool:
        """Whether a budget is met by allocating neurons along the groups' paths, not by one eps for all groups."""
        return self.criterion is not None and self.widths is None


_METHODS: dict[str, PruningMethod] = {}


def register_method(
    name: str,
    *,
    widths: WidthsWithinEps | None = None,
    gram: bool = False,
    labels: bool = False,
    reconstruction: bool = False,
) -> Callable[[Criterion], Criterion]:
    """Register a criterion, a function of (evaluator, generator) that gives a group's `PruningPath`, as a method.

    The generator is seeded for each group. The other arguments are fields of `PruningMethod`.
    """

    def register(criterion: Criterion) -> Criterion:
        def search(evaluator: GroupEvaluator, goal: GroupGoal, generator: torch.Generator) -> Proposals:
            return {name: goal.scale_along(criterion(evaluator, generator), evaluator)}

        _register(PruningMethod(name, search, criterion, widths, gram, labels, reconstruction))
        return criterion

    return register


def register_search(name: str, *, gram: bool = False) -> Callable[[GroupSearch], GroupSearch]:
    """Register a function of (evaluator, goal, generator) that gives `Proposals` as a method that ranks no neurons."""

    def register(search: GroupSearch) -> GroupSearch:
        _register(PruningMethod(name, search, gram=gram))
        return search

    return register


def _register(method: PruningMethod) -> None:
    if method.name in _METHODS:
        raise ZooError(f"There is a pruning method '{method.name}' already: register yours under another name.")
    _METHODS[method.name] = method


def list_methods() -> tuple[str, ...]:
    """The names of all registered methods, sorted."""
    return tuple(sorted(_METHODS))


def get_method(name: str) -> PruningMethod:
    """The method of that name. Raises ZooError, with near names, where there is none."""
    if name not in _METHODS:
        raise ZooError(f"There is no pruning method '{name}'; {suggest(name, list_methods())}")
    return _METHODS[name]


def default_repair(name: str) -> Repair:
    """The repair that a method comes with."""
    return Repair() if get_method(name).reconstruction else PLAIN


def resolve_config(name: str, options: Options | None = None, budget: Budget | None = None) -> MethodConfig:
    """A method with all of its settings. Raises ZooError for settings that the method, or the budget, excludes."""
    method = get_method(name)
    options = options or Options()
    repair = options.repair or default_repair(name)
    options = Options(options.search, repair, options.discrepancy, options.batch_size)  # checks them together
    if budget is not None and not method.allocates and budget.minimum != 1:
        raise ZooError(
            f"Method {name} meets a budget by one eps for all layers, and the widths follow from that: leave `minimum` "
            f"at 1."
        )
    if not method.reconstruction and (repair.selection, repair.swap) != ("backward", True):
        raise ZooError(f"`selection` and `swap` are of method repaired, not {name}: leave them out.")
    if method.reconstruction and not repair.update_weights:
        raise ZooError(f"Method {name} chooses neurons for readers that are solved anew: leave the repair on.")
    return MethodConfig(name, options.search, repair, options.discrepancy, options.batch_size)
