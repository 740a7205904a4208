"""One group: run the method's searches and choose between them (Ye, Wu, Liu 2020, algorithm 2)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.prune.engine import GroupEvaluator
from zoo.prune.options import Budget, Repair, Search
from zoo.prune.path import Path
from zoo.prune.report import GroupReport
from zoo.prune.search.criteria import geometric_median, l1_norm, taylor
from zoo.prune.search.global_search import global_imitation
from zoo.prune.search.local_search import forward_selection, local_discrepancy, local_imitation, settled

STATISTICAL = ("combined", "gfs", "global", "local", "repaired")  # choose by local errors
PATHS = ("fpgm", "gfs", "l1", "local", "repaired", "taylor")
Weights = Mapping[str, Sequence[Tensor]]


@dataclass(frozen=True)
class Method:
    """A method by its name, and how its searches and the repair run."""

    name: str
    search: Search
    repair: Repair

    def of_prices(self) -> dict[str, object]:
        """What of the repair decides how a group is pruned; the last steps do not."""
        last = ("recalibrate", "distil_epochs")
        return {key: value for key, value in asdict(self.repair).items() if key not in last}

    def check(self, budget: Budget | None) -> None:
        """Raise ZooError for settings that exclude each other."""
        if budget is not None and self.name not in PATHS and (budget.round_to, budget.minimum) != (1, 1):
            raise ZooError(
                f"Method {self.name} meets a budget by one eps for all layers, and the widths follow from that: leave "
                f"round_to and minimum at 1."
            )
        if self.name != "repaired" and (self.repair.direction, self.repair.exchanges) != ("backward", True):
            raise ZooError(f"direction and exchanges are of method repaired, not {self.name}: leave them out.")
        if self.name == "repaired" and not self.repair.readers:
            raise ZooError("Method repaired chooses neurons for readers that are solved anew: leave the repair on.")
        if self.repair.readers and self.search.positions < 1:
            raise ZooError("The repair looks at all positions: leave positions at 1.")
        if self.repair.readers and self.search.look_precision != "float32":
            raise ZooError(
                "The repair solves for what it sees, in float32: leave look_precision out, or take method local."
            )


def path_of(how: Method, layer: GroupEvaluator, weights: Weights | None) -> Path:
    """The method's path for a group: what to keep for every number of neurons."""
    if how.name in ("l1", "uniform"):
        return l1_norm(layer.group)
    if how.name == "fpgm":
        return geometric_median(layer.group)
    if how.name == "taylor":
        return taylor(layer)
    if how.name == "repaired":
        assert layer.repairer is not None  # for the type checker
        return layer.repairer.path(how.repair.direction, swap=how.repair.exchanges)
    G, _ = _gram(how, layer, weights, torch.Generator().manual_seed(0))
    return forward_selection(G) if how.name == "gfs" else local_imitation(G, settle=how.search.settle)


def _gram(how: Method, layer: GroupEvaluator, weights: Weights | None, drawn: torch.Generator) -> tuple[Tensor, float | None]:
    if layer.repairer is not None:
        return layer.repairer.gram_matrix(), None
    of_group = None if weights is None else weights[layer.group.name]
    return layer.gram_matrix(fraction=how.search.positions, generator=drawn, fisher=of_group)


def prune_group(
    layer: GroupEvaluator, how: Method, eps: float | None, keep: int | None, weights: Weights | None, generator: torch.Generator
) -> tuple[GroupReport, Tensor]:
    """Run the method's searches on one group and choose between them.

    The report, whose discrepancy and gap are still to be filled in, and the scales (N,) of the winner.
    """
    started = time.perf_counter()
    group, method, search = layer.group, how.name, how.search
    whole = torch.ones(group.size, dtype=torch.float64)
    found: dict[str, Tensor | None] = {}
    uncertain: float | None = None

    def along(path: Path) -> Tensor | None:
        if keep is not None:
            return path.scale(keep)
        assert eps is not None
        return layer.smallest_within_eps(path, eps, slack=search.slack)

    if keep == group.size:
        method = "whole"
    if method in ("combined", "local", "global", "gfs"):
        G, uncertain = _gram(how, layer, weights, torch.Generator().manual_seed(generator.initial_seed()))
    if method in ("combined", "local"):
        found["local"] = along(local_imitation(G, settle=search.settle))
    if method == "gfs":
        found["gfs"] = along(forward_selection(G))
    if method in ("l1", "uniform", "fpgm", "taylor", "repaired"):
        found[method] = along(path_of(how, layer, weights))
    if method in ("combined", "global"):
        first = int((group.size * G.diagonal() - 2 * G.sum(1)).argmin())  # equation (3)
        found["global"] = global_imitation(
            layer, search=search, start=first, eps=eps, neurons=keep, generator=generator,
            refine=(lambda scale: settled(G, scale)) if search.settle else None,
            error=lambda scale: float(local_discrepancy(G, scale / group.size)),
        )  # fmt: skip
    best, winner = whole, "whole"
    able = {name: scale for name, scale in found.items() if scale is not None and neurons(scale) < group.size}
    if len(able) == 1:
        ((winner, best),) = able.items()
    elif able:
        winner, best = min(able.items(), key=lambda each: (neurons(each[1]), layer.gap_and_discrepancy(each[1])[1]))
    counts = {name: None if scale is None else neurons(scale) for name, scale in found.items()}
    row = GroupReport(
        group.name, group.size, neurons(best), winner, counts.get("local"), counts.get("global"), 0.0, 0.0,
        time.perf_counter() - started, uncertain,
    )  # fmt: skip
    return row, best


def neurons(scale: Tensor) -> int:
    """How many neurons have a scale that is not 0."""
    return int(torch.count_nonzero(scale))
