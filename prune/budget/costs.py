"""What widths cost, in the unit of a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from zoo.models import NeuronGroup
from zoo.prune.budget.cost_model import macs_of, parameters_of
from zoo.prune.budget.latency_table import measure_latency
from zoo.prune.engine import PruningSession
from zoo.prune.options import Budget


class Costs(Protocol):
    """The cost of a network as a function of its groups' widths.

    sizes  group name -> N
    """

    sizes: dict[str, int]

    def __call__(self, widths: Mapping[str, int]) -> float:
        """The cost of the whole network; a group that is not named is unpruned."""

    def cost_curve(self, group: str, widths: Mapping[str, int]) -> Tensor:
        """(N + 1,) what n = 0 ... N neurons of one group cost, while the others have these widths."""


def costs_of(
    session: PruningSession, groups: Sequence[NeuronGroup], budget: Budget, *, progress: bool = False
) -> Costs:
    """What widths of these groups cost in the budget's unit; milliseconds are measured here and now."""
    if budget.kind == "macs":
        return macs_of(session.model, session.groups, session.inputs[:1])
    if budget.kind == "parameters":
        return parameters_of(session.model, session.groups)
    return measure_latency(session, groups, progress=progress)
