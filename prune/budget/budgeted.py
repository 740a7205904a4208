"""A budget met by a method that goes by eps: whole passes, one after another, until one eps meets it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from torch import nn

from zoo.models import NeuronGroup
from zoo.prune.budget.allocation import Costs
from zoo.prune.budget.cost_model import macs_of, parameters_of
from zoo.prune.budget.eps_search import eps_within
from zoo.prune.budget.latency_table import latency_of
from zoo.prune.engine import PruningSession
from zoo.prune.options import Budget, Repair
from zoo.prune.report import PruneReport
from zoo.prune.resume import Identity, Record
from zoo.prune.validation import chosen_groups

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Tried:
    """What widths cost, and the widths that each eps gave, for the next budget."""

    costs: Costs
    names: Sequence[str]  # of the groups
    record: Record  # eps -> neurons of each group

    @classmethod
    def of(
        cls, space: PruningSession, groups: Sequence[str] | None, budget: Budget, known: Path | str | None,
        same: Callable[[Mapping[str, object]], str], *, progress: bool,
    ) -> Tried:  # fmt: skip
        """For a workspace; `known` is that of `zoo.prune.prune`, the record lies beside it. `same` gives the
        fingerprint of the pass with what else it depends on."""
        chosen = chosen_groups(space.groups, groups)
        names = [group.name for group in chosen]
        costs = costs_of(space, chosen, budget, progress=progress)
        if known is None:
            return cls(costs, names, Record(None, Identity("", ())))
        outputs = tuple(space.logits(space.activation_cache())[0].flatten().tolist())
        identity = Identity(same({"groups": names}), outputs)
        return cls(costs, names, Record(Path(known).with_suffix(".eps.json"), identity))

    def known(self) -> dict[float, float]:
        """eps -> what the network that it gave costs."""
        found = {}
        for eps, widths in self.record.values.items():
            found[float(eps)] = self.costs({name: int(n) for name, n in zip(self.names, widths, strict=True)})
        return found


def costs_of(space: PruningSession, chosen: Sequence[NeuronGroup], budget: Budget, *, progress: bool) -> Costs:
    """What widths cost, in the budget's unit."""
    if budget.kind == "macs":
        return macs_of(space.model, space.groups, space.inputs[:1])
    if budget.kind == "parameters":
        return parameters_of(space.model, space.groups)
    return latency_of(space, list(chosen), progress=progress)


def at_one_eps(
    run: Callable[..., tuple[Model, PruneReport]], budget: Budget, tried: Tried, repair: Repair,
    checkpoint: Path | str | None,
) -> tuple[Model, PruneReport]:  # fmt: skip
    """The pass at the eps that meets the budget (`zoo.prune.budget.eps_search`). Each eps that is tried has a journal of its own.

    run(eps or widths, repair, checkpoint) is `zoo.prune.prune` with all else given.
    """
    whole = tried.costs({})
    bound = budget.bound(whole)
    if whole <= bound:
        small, report = run(widths={}, repair=repair, checkpoint=checkpoint)
        return small, replace(report, budget={**asdict(budget), "bound": bound, "before": whole, "after": whole})
    with TemporaryDirectory() as folder:
        place = Path(folder) / "journal" if checkpoint is None else Path(checkpoint)

        def at(eps: float, repair: Repair) -> tuple[Model, PruneReport]:
            return run(eps=eps, repair=repair, checkpoint=place.with_name(f"{place.name}.eps-{eps:g}"))

        def cost(eps: float) -> float:
            groups = at(eps, replace(repair, recalibrate=False, distil_epochs=0))[1].groups
            tried.record.update({f"{eps:g}": [float(group.after) for group in groups]})
            return tried.costs({group.name: group.after for group in groups})

        small, report = at(eps_within(cost, bound, tried.known()), repair)
    after = tried.costs({group.name: group.after for group in report.groups})
    return small, replace(report, budget={**asdict(budget), "bound": bound, "before": whole, "after": after})
