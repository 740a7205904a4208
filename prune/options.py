"""The options of pruning as records: what the searches, the repair and a budget take. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from zoo.errors import ZooError, suggest

LOOKS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Search:
    """Settings of the two greedy searches; the defaults are for a CPU.

    exact_until  global: up to so many neurons every candidate is tried exactly (the paper: 25); 0 starts at local
                 imitation's first neuron instead
    candidates   global: from then on the gradient ranks the neurons, and so many, those with the largest predicted
                 decrease, are tried exactly (the paper: 5)
    refresh      global: one gradient serves this many steps for each neuron picked so far (the paper: 0, one for each
                 step). At k picks a step moves the layer by 1/(1+k), so the gradient ages slowly; where it serves
                 several steps, the best-ranked neurons are taken without trial
    settle       both: at each number of neurons that is tried the weights converge by local imitation's own steps
                 (`zoo.prune.search.local_search.settled`), whichever search chose the neurons; False is the paper's search as it
                 stands
    slack        where eps is to be met: a gap below it by at most this part of it ends the search of a group; with 0 it
                 ends where N / 64 neurons fewer miss eps. Fewer looks at the output, for a few neurons more
    positions    local: this part of the output positions of a k x k convolution enters the statistics, drawn anew for
                 every few samples; the report says by how much G is uncertain for it
    look_precision  all but repairs: what products are taken in (autocast) wherever the pruning data goes through the
                 network, float32 or bfloat16, which is quick where the processor multiplies it. The last of several
                 stages stays in float32, and the statistics of local imitation are summed in float32 and float64;
                 gradients (the global search's, Taylor importance) are rounded. The report says by how much that moved
                 the gap
    """

    exact_until: int = 0
    candidates: int = 5
    refresh: float = 0.5
    settle: bool = True
    slack: float = 0.0
    positions: float = 1.0
    look_precision: str = "float32"

    def __post_init__(self) -> None:
        if self.exact_until < 0 or self.candidates < 1 or not 0 <= self.refresh <= 1:
            raise ZooError(
                f"The global search takes exact_until >= 0, candidates >= 1 and 0 <= refresh <= 1; got "
                f"{self.exact_until}, {self.candidates} and {self.refresh}."
            )
        if not 0 <= self.slack < 1:
            raise ZooError(f"slack is a part of eps, from 0 up to but not 1; got {self.slack}.")
        if not 0 < self.positions <= 1:
            raise ZooError(f"positions is the part of the positions to look at, above 0 and at most 1; got "
                           f"{self.positions}.")  # fmt: skip
        if self.look_precision not in LOOKS:
            raise ZooError(
                f"look_precision is float32 or bfloat16, what to take products in; got {self.look_precision!r}."
            )

    def settings(self) -> dict[str, Any]:
        """What tells one search from another. A field that came later is in it only where it is used, so that a journal
        of an earlier version goes on."""
        later = {"slack": 0.0, "look_precision": "float32"}
        return {name: value for name, value in asdict(self).items() if value != later.get(name)}


PAPER = Search(exact_until=25, candidates=5, refresh=0.0, settle=False)


DIRECTIONS = ("backward", "forward")
WEIGHTINGS = ("none", "output")


@dataclass(frozen=True)
class Repair:
    """Settings of the repair; `PLAIN` turns all of it off and leaves the paper's method.

    readers         the readers' weights are solved anew for the neurons that are kept, by least squares with a
                    constant; the ridge is chosen on samples held out
    direction       the search of method "repaired": backward (structured optimal brain surgeon) or forward
                    (simultaneous orthogonal matching pursuit)
    exchanges       its choice is bettered by exchanging neurons
    weighting       output: local errors count by what they do to the network's output (`zoo.prune.statistics.fisher`);
                    none: squared errors, as in the paper
    discrimination  the part of that weighting that comes from the true labels, 0 to 1
    recalibrate     at the end batch norms take their statistics from the pruning data
    distil_epochs   at the end so many epochs of training towards the unpruned network's outputs, on the pruning data
                    without its labels
    """

    readers: bool = True
    direction: str = "backward"
    exchanges: bool = True
    weighting: str = "output"
    discrimination: float = 0.0
    recalibrate: bool = False
    distil_epochs: int = 0

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise ZooError(f"There is no direction '{self.direction}'; {suggest(self.direction, DIRECTIONS)}.")
        if self.weighting not in WEIGHTINGS:
            raise ZooError(f"There is no weighting '{self.weighting}'; {suggest(self.weighting, WEIGHTINGS)}.")
        if not 0 <= self.discrimination <= 1:
            raise ZooError(f"discrimination is a part, from 0 to 1; got {self.discrimination}.")
        if self.discrimination and self.weighting == "none":
            raise ZooError("discrimination is a part of the weighting: ask for weighting 'output' as well.")
        if self.distil_epochs < 0:
            raise ZooError(f"{self.distil_epochs} epochs of distillation are not possible: give 0 or more.")


PLAIN = Repair(readers=False, weighting="none")

KINDS = ("macs", "parameters", "milliseconds")


@dataclass(frozen=True)
class Budget:
    """At most so many MACs of one sample, parameters, or milliseconds for a batch on this device
    (`zoo.prune.budget.latency_table`: 8 samples, on a GPU 32, as on cards); one of the three.

    A number up to 1 is a part of the unpruned network's. Each group keeps a multiple of `round_to` neurons, or all, and
    `minimum` at least.
    """

    macs: float | None = None
    parameters: float | None = None
    milliseconds: float | None = None
    round_to: int = 1
    minimum: int = 1

    def __post_init__(self) -> None:
        given = [value for kind in KINDS if (value := getattr(self, kind)) is not None]
        if len(given) != 1:
            raise ZooError("A budget is one of MACs, parameters or milliseconds.")
        if not isinstance(given[0], int | float) or not (math.isfinite(given[0]) and given[0] > 0):
            raise ZooError(f"A budget is a number above 0 (up to 1: a part of the whole network's); got {given[0]!r}.")
        if not all(isinstance(each, int) and each >= 1 for each in (self.round_to, self.minimum)):
            raise ZooError(
                f"round_to and minimum are numbers of neurons from 1 up; got {self.round_to} and {self.minimum}."
            )

    @property
    def kind(self) -> str:
        """macs, parameters or milliseconds."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    def bound(self, whole: float) -> float:
        """The cost allowed, when the unpruned network costs `whole`."""
        value = float(getattr(self, self.kind))
        return value * whole if value <= 1 else value
