"""What is done beyond the paper: which parts of the repair a pruning pass runs."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.errors import ZooError, suggest
from zoo.prune.repair.choice import DIRECTIONS

WEIGHTINGS = ("none", "output")


@dataclass(frozen=True)
class Repair:
    """Settings of the repair; `PLAIN` turns all of it off and leaves the paper's method.

    readers         the readers' weights are solved anew for the neurons that are kept, by least squares with a
                    constant; the ridge is chosen on samples held out
    direction       the search of method "repaired": backward (structured optimal brain surgeon) or forward
                    (simultaneous orthogonal matching pursuit)
    exchanges       its choice is bettered by exchanging neurons
    weighting       output: local errors count by what they do to the network's output (`zoo.prune.repair.fisher`);
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
