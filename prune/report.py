"""What a pruning pass did, group by group."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class GroupReport:
    """One group.

    before, after   neurons
    winner          the criterion whose neurons were kept, or "whole" where none met eps
    local, global_  neurons that local and global imitation would have kept; None where one was not asked or did not
                    meet eps
    discrepancy     mean discrepancy at the network's output against the network just before this group was pruned
    gap             mean cross-entropy on the pruning data, less that just before this group was pruned; where widths
                    or a budget say how many neurons stay, of methods that rank neurons both are of the first 256
                    samples
    seconds         for this group
    uncertain       relative standard error of the statistics G for sampled positions; None where all were used
    """

    name: str
    before: int
    after: int
    winner: str
    local: int | None
    global_: int | None
    discrepancy: float
    gap: float
    seconds: float
    uncertain: float | None = None


@dataclass(frozen=True)
class StepReport:
    """The whole network on the pruning data after a step: its mean discrepancy from the unpruned one, and the rise
    of the mean cross-entropy with the labels (None without labels). seconds: of the first, all but the groups'."""

    name: str
    discrepancy: float
    gap: float | None
    seconds: float


@dataclass(frozen=True)
class PruneReport:
    """A whole pass; `groups` in the order data flows, `samples` the number of pruning samples.

    steps   the network when its groups are pruned, and after each last step
    budget  what the widths had to meet, the bound that it means, and what the network costs before and after: MACs,
            parameters or milliseconds; or None
    reused  the groups for which something came from an earlier run's file
    look_precision  what the groups were looked at in (`zoo.prune.Search`)
    rounded  by how much that moved the whole network's gap: as it was looked at, less that in float32, when its groups
            are pruned; None where there was nothing to round, or not all samples were looked at
    """

    method: str
    eps: float | None
    discrepancy: str
    seed: int
    samples: int
    groups: list[GroupReport] = field(default_factory=list)
    steps: list[StepReport] = field(default_factory=list)
    budget: dict[str, Any] | None = None
    reused: list[str] = field(default_factory=list)
    look_precision: str = "float32"
    rounded: float | None = None

    @property
    def seconds(self) -> float:
        return sum(group.seconds for group in self.groups) + sum(step.seconds for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "seconds": self.seconds}

    def table(self) -> str:
        """For people: one line a group."""
        width = max([5, *(len(group.name) for group in self.groups)])
        some = any(group.uncertain is not None for group in self.groups)
        head = f"{'group':<{width}}  neurons      kept by  local global  discrepancy      gap  seconds"
        lines = [head + ("  error of G" if some else "")]
        for g in self.groups:
            neurons = f"{g.before:>4} > {g.after:<4}"
            local = "-" if g.local is None else str(g.local)
            global_ = "-" if g.global_ is None else str(g.global_)
            lines.append(
                f"{g.name:<{width}}  {neurons} {g.winner:>9}  {local:>5} {global_:>6}  {g.discrepancy:>11.5f} "
                f"{g.gap:>+8.4f} {g.seconds:>8.1f}"
                + ("" if g.uncertain is None else f"  {100 * g.uncertain:>8.2f} %")
            )
        before, after = sum(g.before for g in self.groups), sum(g.after for g in self.groups)
        lines.append(f"{'all':<{width}}  {before:>4} > {after:<4}{'':>48}{self.seconds:>8.1f}")
        if self.steps:
            lines += ["", "the whole network on the pruning data  discrepancy      gap  seconds"]
        for step in self.steps:
            gap = "-" if step.gap is None else f"{step.gap:+.4f}"
            lines.append(f"{step.name:<38} {step.discrepancy:>11.5f} {gap:>8} {step.seconds:>8.1f}")
        if self.rounded is not None:
            lines += ["", f"looked at in {self.look_precision}, which moved the gap of 'pruned' by {self.rounded:+.4f}"]
        if self.reused:
            lines += ["", f"taken over from an earlier run, in part or whole: {', '.join(self.reused)}"]
        return "\n".join(lines)
