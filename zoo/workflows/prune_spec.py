"""What `zoo reprune` prunes, how far and how, as records. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoo.cards import Value
from zoo.errors import ZooError
from zoo.prune import Budget, Options, check_goal
from zoo.utils import check_seed
from zoo.workflows.command_words import TARGETS


@dataclass(frozen=True)
class WeightsFile:
    """A network of the zoo with the weights of a file of somebody else's (`zoo.convert`), to be pruned."""

    arch: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class PruneSpec:
    """How far an entry is pruned, and how.

    eps, budget, method, options, seed  as of `zoo.prune.prune`; the goal is either eps or a budget
    groups   names of the groups to prune; None is all
    exclude  names of groups that are left unpruned
    samples  the number of training samples to prune on, drawn by the seed, without augmentation; None is the number of
             the data set, 512

    Raises ZooError unless there is one goal, and for a number of samples or a seed that cannot be.
    """

    eps: float | None = None
    budget: Budget | None = None
    method: str | None = None
    options: Options = field(default_factory=Options)
    groups: Sequence[str] | None = None
    exclude: Sequence[str] | None = None
    samples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_goal(self.eps, None, self.budget)
        if self.samples is not None and self.samples < 1:
            raise ZooError(f"{self.samples} samples are too few to prune on: give 1 or more")
        check_seed(self.seed)

    def goal_on_card(self) -> dict[str, Value]:
        """The goal as cards state it; eps is None where there is a budget."""
        if self.budget is None:
            return {"eps": self.eps}
        option = next(option for option, kind in TARGETS.items() if kind == self.budget.kind)
        minimum = self.budget.minimum if self.budget.minimum > 1 else None
        return {"eps": None, option: float(getattr(self.budget, self.budget.kind)), "min_width": minimum}
