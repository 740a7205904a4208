"""How much work the searches may do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from zoo.errors import ZooError

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
                 (`zoo.prune.local.settled`), whichever search chose the neurons; False is the paper's search as it
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
