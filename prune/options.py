"""The settings of pruning as records, and what excludes what among them. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import ZooError, suggest

EVAL_DTYPES = ("float32", "bfloat16")
SELECTIONS = ("backward", "forward")
WEIGHTINGS = ("none", "fisher")
DISCREPANCIES = ("cross_entropy", "squared_error")
BUDGET_KINDS = ("macs", "parameters", "milliseconds")
CACHE_BYTES = 4 * 2**30

# Names of fields that stand on older cards and in older commands -> today's. The fingerprints of resume files are made
# of the older names, so that a run begun by an older version goes on.
SEARCH_ALIASES = {
    "exact_until": "exhaustive_below", "candidates": "topk_candidates", "refresh": "gradient_reuse", "settle": "refine",
    "slack": "eps_tolerance", "positions": "position_fraction", "look_precision": "eval_dtype",
}  # fmt: skip
REPAIR_ALIASES = {
    "readers": "update_weights", "direction": "selection", "exchanges": "swap", "discrimination": "label_weight",
}  # fmt: skip
WEIGHTING_ALIASES = {"output": "fisher"}


@dataclass(frozen=True)
class Search:
    """Settings of the two greedy searches; the defaults are for a CPU.

    exhaustive_below   global imitation: with fewer neurons than this every candidate is tried exactly (the paper: 25);
                       with 0 the search starts at the first neuron of local imitation
    topk_candidates    global imitation: from then on the gradient ranks the neurons, and so many with the largest
                       predicted decrease are tried exactly (the paper: 5)
    gradient_reuse     global imitation: one gradient serves so many steps for each neuron picked so far (the paper: 0,
                       one gradient a step). Step k moves the layer by 1/(1+k), so a gradient stays accurate for several
                       steps; where one serves several, the best-ranked neurons are taken without trial
    refine             both: the weights of the chosen neurons are optimised until they converge, with no neuron added
                       (the fully corrective step of Frank-Wolfe methods); False is the search of the paper
    holdout            with eps: the fraction of the samples that judge whether a group meets eps, and choose nothing:
                       neurons and readers' weights come from the others, and a gap that is measured on the samples it
                       was minimised on is too small. A group passes where its gap plus one standard error is below eps.
                       With 0 all samples do both (the paper)
    round_to           each group keeps a multiple of so many neurons, or all: other widths can make a network slower
                       than the one it came from. None is 8, and 4 in groups below 32
    eps_tolerance      with eps: the search of a group ends at a gap from (1 - eps_tolerance) eps to eps; with 0 it ends
                       where N / 64 neurons fewer miss eps. Fewer forward passes, for a few neurons more
    position_fraction  local imitation: the fraction of the output positions of a k x k convolution that enters the
                       statistics, drawn afresh for every few samples; the report gives the standard error of G
    eval_dtype         methods that do not update the readers' weights: dtype of the products (torch.autocast) whenever
                       the pruning data goes through the network, float32 or bfloat16. The last of several stages stays
                       in float32, the statistics of local imitation are summed in float32 and float64, gradients are
                       rounded. The report says by how much that moved the gap
    """

    exhaustive_below: int = 0
    topk_candidates: int = 5
    gradient_reuse: float = 0.5
    refine: bool = True
    holdout: float = 0.25
    round_to: int | None = None
    eps_tolerance: float = 0.0
    position_fraction: float = 1.0
    eval_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.exhaustive_below < 0 or self.topk_candidates < 1 or not 0 <= self.gradient_reuse <= 1:
            raise ZooError(
                f"The global search takes `exhaustive_below` from 0 up, `topk_candidates` from 1 up and "
                f"`gradient_reuse` from 0 to 1; got {self.exhaustive_below}, {self.topk_candidates} and "
                f"{self.gradient_reuse}."
            )
        if not 0 <= self.holdout < 1:
            raise ZooError(f"`holdout` is a fraction of the samples, from 0 up to but not 1; got {self.holdout}.")
        if self.round_to is not None and (not isinstance(self.round_to, int) or self.round_to < 1):
            raise ZooError(f"`round_to` is a number of neurons from 1 up; got {self.round_to}.")
        if not 0 <= self.eps_tolerance < 1:
            raise ZooError(f"`eps_tolerance` is a fraction of `eps`, from 0 up to but not 1; got {self.eps_tolerance}.")
        if not 0 < self.position_fraction <= 1:
            raise ZooError(
                f"`position_fraction` is the fraction of the positions to use, above 0 and at most 1; got "
                f"{self.position_fraction}."
            )
        if self.eval_dtype not in EVAL_DTYPES:
            raise ZooError(f"`eval_dtype` is float32 or bfloat16, what to take products in; got {self.eval_dtype!r}.")


PAPER = Search(exhaustive_below=25, topk_candidates=5, gradient_reuse=0.0, refine=False, holdout=0.0, round_to=1)
# What users may name instead of single settings; the default lies between fast and thorough.
PRESETS = {
    "paper": PAPER,
    "fast": Search(topk_candidates=3, gradient_reuse=1.0, eps_tolerance=0.1),
    "thorough": Search(topk_candidates=10, gradient_reuse=0.2),
}


@dataclass(frozen=True)
class Repair:
    """What pruning may do beyond the paper: readers' weights reconstructed, and last steps on the cut network. `PLAIN`
    turns all of it off.

    update_weights  the readers' weights are fitted to the outputs before pruning, by ridge regression on the kept
                    neurons with an intercept; the ridge is chosen on held-out samples
    selection       how method "repaired" chooses neurons: backward (structured optimal brain surgeon) or forward
                    (simultaneous orthogonal matching pursuit)
    swap            the choice of method "repaired" is refined by swapping neurons
    weighting       fisher: local errors are weighted by the Fisher information at the reader's output
                    (`zoo.prune.statistics.fisher`); none: squared errors, as in the paper
    label_weight    the fraction of that Fisher information that comes from the true labels, 0 to 1
    recalibrate     at the end batch norms take their statistics from the pruning data
    distil_epochs   at the end so many epochs of distillation from the unpruned network, on the pruning data without its
                    labels
    """

    update_weights: bool = True
    selection: str = "backward"
    swap: bool = True
    weighting: str = "fisher"
    label_weight: float = 0.0
    recalibrate: bool = False
    distil_epochs: int = 0

    def __post_init__(self) -> None:
        if self.selection not in SELECTIONS:
            raise ZooError(f"There is no selection '{self.selection}'; {suggest(self.selection, SELECTIONS)}")
        if self.weighting not in WEIGHTINGS:
            raise ZooError(f"There is no weighting '{self.weighting}'; {suggest(self.weighting, WEIGHTINGS)}")
        if not 0 <= self.label_weight <= 1:
            raise ZooError(f"`label_weight` is a fraction, from 0 to 1; got {self.label_weight}.")
        if self.label_weight and self.weighting == "none":
            raise ZooError("`label_weight` is a part of the weighting: ask for `weighting=fisher` as well.")
        if self.distil_epochs < 0:
            raise ZooError(f"{self.distil_epochs} epochs of distillation are not possible: give 0 or more.")


PLAIN = Repair(update_weights=False, weighting="none")


@dataclass(frozen=True)
class Budget:
    """At most so many MACs of one sample, parameters, or milliseconds of a batch on this device (8 samples, on a GPU
    32, as on cards); one of the three.

    A number up to 1 is a fraction of the unpruned network's. Each group keeps `minimum` neurons at least.
    """

    macs: float | None = None
    parameters: float | None = None
    milliseconds: float | None = None
    minimum: int = 1

    def __post_init__(self) -> None:
        given = [value for kind in BUDGET_KINDS if (value := getattr(self, kind)) is not None]
        if len(given) != 1:
            raise ZooError("A budget is one of MACs, parameters or milliseconds.")
        if not isinstance(given[0], int | float) or not (math.isfinite(given[0]) and given[0] > 0):
            raise ZooError(f"A budget is a number above 0 (up to 1: a part of the whole network's); got {given[0]!r}.")
        if not isinstance(self.minimum, int) or self.minimum < 1:
            raise ZooError(f"`minimum` is a number of neurons from 1 up; got {self.minimum}.")

    @property
    def kind(self) -> str:
        """macs, parameters or milliseconds."""
        return next(kind for kind in BUDGET_KINDS if getattr(self, kind) is not None)

    def bound(self, unpruned: float) -> float:
        """The largest cost allowed, when the unpruned network costs `unpruned`."""
        value = float(getattr(self, self.kind))
        return value * unpruned if value <= 1 else value


def check_goal(eps: float | None, widths: Mapping[str, int] | None, budget: Budget | None) -> None:
    """Raise ZooError unless exactly one goal is given, and eps is a tolerance."""
    if sum(goal is not None for goal in (eps, widths, budget)) != 1:
        raise ZooError(
            "Give one goal: `eps`, the tolerance; widths, the number of neurons of each group; or a budget for the "
            "whole."
        )
    if eps is not None and not (math.isfinite(eps) and eps >= 0):
        raise ZooError(f"`eps` is a tolerance of the cross-entropy, a number that is not negative; got {eps}.")


def default_method(search: Search | None = None) -> str:
    """The method where none is named: "repaired", and with the search of the paper "combined", the paper's."""
    return "combined" if search == PAPER else "repaired"


@dataclass(frozen=True)
class Options:
    """How `prune` works: what, besides the method and the goal, decides which network comes out.

    search       of the two imitations (`Search`); `PAPER` is the paper's setting, hours on a CPU
    repair       beyond the paper (`Repair`); None is what the method comes with: `Repair()` for a method that chooses
                 neurons for reconstructed readers, `PLAIN` for all others
    discrepancy  cross_entropy or squared_error, what global imitation minimises (`zoo.prune.engine.discrepancy`)
    batch_size   samples of a mini-batch of the global search, and of a forward pass at most (on a GPU up to 16
                 candidates of the global search share one)
    """

    search: Search = field(default_factory=Search)
    repair: Repair | None = None
    discrepancy: str = "cross_entropy"
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.discrepancy not in DISCREPANCIES:
            raise ZooError(f"There is no discrepancy '{self.discrepancy}'; {suggest(self.discrepancy, DISCREPANCIES)}")
        if self.batch_size < 1:
            raise ZooError(f"`batch_size` is {self.batch_size}: give 1 or more samples.")
        if self.repair is None or not self.repair.update_weights:
            return
        if self.search.position_fraction < 1:
            raise ZooError("The repair uses all positions: leave `position_fraction` at 1.")
        if self.search.eval_dtype != "float32":
            raise ZooError(
                "The repair fits to measured inputs, in float32: leave `eval_dtype` out, or take `method=local`."
            )


@dataclass(frozen=True)
class Runtime:
    """Where and how `prune` runs. Nothing here changes which network comes out.

    cache_bytes  for the activations that are kept in front of a layer; past them stages are run again
    resume_file  holds the finished groups: a killed run, called again with the same arguments, continues from there
    cache_file   holds what other goals for the same network, data and options can reuse: with a budget the groups'
                 sensitivity curves, or the widths of every eps that was tried (the report names the groups reused);
                 beside it, the Fisher matrices of the unpruned network
    progress     show a progress bar
    """

    cache_bytes: int = CACHE_BYTES
    resume_file: Path | str | None = None
    cache_file: Path | str | None = None
    progress: bool = False


@dataclass(frozen=True)
class MethodConfig:
    """A method's name with all of its settings, none of them left open: what decides, besides the network, the data,
    the goal and the seed, which neurons stay."""

    name: str = "combined"
    search: Search = field(default_factory=Search)
    repair: Repair = PLAIN
    discrepancy: str = "cross_entropy"
    batch_size: int = 64

    def cache_key(self) -> dict[str, Any]:
        """The settings that the scales of a group depend on, for fingerprints, under the names of the first version.

        The last steps are left out, and fields that came later are in it only where they are used: a file of an
        earlier version stays valid.
        """
        later = {"slack": 0.0, "look_precision": "float32", "holdout": 0.0, "round_to": 1}
        last_steps = ("recalibrate", "distil_epochs")
        search = _first_names(asdict(self.search), SEARCH_ALIASES)
        repair = _first_names(asdict(self.repair), REPAIR_ALIASES)
        repair["weighting"] = next((k for k, v in WEIGHTING_ALIASES.items() if v == repair["weighting"]), "none")
        return {
            "method": self.name, "discrepancy": self.discrepancy, "batch_size": self.batch_size,
            "search": {name: value for name, value in search.items() if value != later.get(name)},
            "repair": {name: value for name, value in repair.items() if name not in last_steps},
        }  # fmt: skip


def _first_names(settings: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    first = {new: old for old, new in aliases.items()}
    return {first.get(name, name): value for name, value in settings.items()}
