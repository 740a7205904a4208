"""What a pruning run did, group by group."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class GroupReport:
    """How one group was pruned.

    before, after    number of neurons
    winner           the criterion whose neurons were kept, or "whole" where the group keeps all
    local, global_   number of neurons that local and global imitation would have kept; None where one was not run, or
                     did not meet eps
    discrepancy      mean discrepancy at the network's output against the network just before this group was pruned
    gap              mean cross-entropy minus that just before this group was pruned. Both are of the held-out samples,
                     where there are some; where a method that ranks neurons was given widths or a budget, of the first
                     256 samples; otherwise of all
    seconds          spent on this group
    gram_rel_stderr  relative standard error of the statistics G from sampled positions; None where all were used
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
    gram_rel_stderr: float | None = None


@dataclass(frozen=True)
class StepReport:
    """The whole network on the pruning data after a step: its mean discrepancy from the unpruned network, and by how
    much the mean cross-entropy with the labels rose (None without labels). Where samples are held out, these two are of
    the samples that chose neurons, and `held_out_discrepancy` and `held_out_gap` of those that did not. The seconds of
    the first step are those of the whole run without those of the groups."""

    name: str
    discrepancy: float
    gap: float | None
    seconds: float
    held_out_discrepancy: float | None = None
    held_out_gap: float | None = None


@dataclass(frozen=True)
class PruneReport:
    """What a whole run did; `groups` in the order data flows, `samples` the number of pruning samples, of which
    `held_out` judged and chose nothing.

    eps         the tolerance; the one that was found where a budget is met by one eps; None for widths
    steps       the network after its groups are pruned, and after each last step
    budget      the budget, the bound that it means, and the cost of the network before and after (MACs, parameters or
                milliseconds); None without one
    reused      the groups for which the cache file of an earlier run had something
    eval_dtype  the dtype that groups were evaluated in (`zoo.prune.Search`)
    rounding    the gap of the pruned network in eval_dtype minus that in float32; None where eval_dtype is float32, or
                where not all samples were evaluated
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
    eval_dtype: str = "float32"
    rounding: float | None = None
    held_out: int = 0

    @property
    def seconds(self) -> float:
        return sum(group.seconds for group in self.groups) + sum(step.seconds for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return {**asdict(self), "seconds": self.seconds}

    def table(self) -> str:
        """A table with one line for each group, as text."""
        width = max([5, *(len(group.name) for group in self.groups)])
        sampled = any(group.gram_rel_stderr is not None for group in self.groups)
        head = f"{'group':<{width}}  neurons      kept by  local global  discrepancy      gap  seconds"
        lines = [head + ("  error of G" if sampled else "")]
        for g in self.groups:
            neurons = f"{g.before:>4} > {g.after:<4}"
            local = "-" if g.local is None else str(g.local)
            global_ = "-" if g.global_ is None else str(g.global_)
            lines.append(
                f"{g.name:<{width}}  {neurons} {g.winner:>9}  {local:>5} {global_:>6}  {g.discrepancy:>11.5f} "
                f"{g.gap:>+8.4f} {g.seconds:>8.1f}"
                + ("" if g.gram_rel_stderr is None else f"  {100 * g.gram_rel_stderr:>8.2f} %")
            )
        before, after = sum(g.before for g in self.groups), sum(g.after for g in self.groups)
        lines.append(f"{'all':<{width}}  {before:>4} > {after:<4}{'':>48}{self.seconds:>8.1f}")
        if self.steps:
            head = "the whole network on the pruning data  discrepancy      gap"
            held_out = f"   on {self.held_out} held out: discrepancy      gap" if self.held_out else ""
            lines += ["", f"{head}{held_out}  seconds"]
        for step in self.steps:
            line = f"{step.name:<38} {step.discrepancy:>11.5f} {_signed(step.gap):>8}"
            if step.held_out_discrepancy is not None:
                width = len(held_out) - 9
                line += f"{step.held_out_discrepancy:>{width}.5f} {_signed(step.held_out_gap):>8}"
            lines.append(f"{line} {step.seconds:>8.1f}")
        if self.rounding is not None:
            lines += ["", f"evaluated in {self.eval_dtype}, which moved the gap of 'pruned' by {self.rounding:+.4f}"]
        if self.reused:
            lines += ["", f"reused from an earlier run: {', '.join(self.reused)}"]
        return "\n".join(lines)


def _signed(gap: float | None) -> str:
    return "-" if gap is None else f"{gap:+.4f}"
