"""What `zoo reprune` says before it starts: what it will do, on how many samples, for how long, and where it saves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.cards import Accuracy
from zoo.display import percent, quantity
from zoo.models import groups_of
from zoo.prune import MethodConfig, get_method
from zoo.workflows.data_spec import Splits
from zoo.workflows.measurement import Measurement
from zoo.workflows.prune_spec import PruneSpec
from zoo.workflows.recipes import RECOVERY_PASSES, Finetune
from zoo.workflows.run import RunOptions
from zoo.workflows.save import Parent

# Seconds of the parts of a run, in forward passes of the parent for one sample: measured on DGCNN and MobileNetV2 with
# method repaired. An estimate, for a reader who wonders whether to wait.
_PASSES_A_GROUP = 1.1
_PASSES_OF_GLOBAL_SEARCH = 9.0  # a group, of methods global and combined
_PASSES_OF_RECOVERY = 6.0
_PASSES_OF_TIMING = 350.0


@dataclass(frozen=True)
class Plan:
    """A run of `zoo.workflows.reprune`; `seconds` is what one sample takes the parent."""

    parent: Parent
    splits: Splits
    measured: Measurement
    seconds: float
    config: MethodConfig
    spec: PruneSpec
    samples: int
    recovery: int
    finetune: Finetune
    run: RunOptions

    def text(self, groups: Sequence[str] | None) -> str:
        """A few lines; groups are those to prune, None is all."""
        counts, evaluation = self.measured.counts, self.measured.evaluation
        accuracy = Accuracy.of(self.splits.spec.test_name, evaluation.correct, evaluation.total)
        number = len(groups_of(self.parent.model)) if groups is None else len(groups)
        lines = [
            f"{self.parent.name}: {quantity(counts.parameters)} parameters, {quantity(counts.macs)} MACs, "
            f"{accuracy.correct} of {accuracy.total} right ({percent(accuracy)})",
            f"Pruning {number} group{'' if number == 1 else 's'} by method {self.config.name} on {self._samples()}, "
            f"{self._goal()}; {self._widths()}.",
        ]
        if self.recovery:
            lines.append(
                f"Then recovery: {RECOVERY_PASSES} passes over {self.recovery} training samples towards the parent's "
                "outputs."
            )
        if self.finetune.epochs:
            lines.append(f"Then fine-tuning for {self.finetune.epochs} epochs.")
        left = _duration(self._estimate(number))
        lines.append(f"About {left} on this machine ({os.cpu_count()} cores). It will be saved in {self.run.folder}.")
        return "\n".join(lines)

    def _samples(self) -> str:
        held_out = round(self.config.search.holdout * self.samples) if self.spec.eps is not None else 0
        kind = "clouds" if len(self.splits.train.sample_shape) == 2 else "samples"
        parts = f" ({self.samples - held_out} choose neurons, {held_out} judge)" if held_out else ""
        return f"{self.samples} training {kind}{parts}"

    def _goal(self) -> str:
        if self.spec.eps is not None:
            return f"tolerance {self.spec.eps:g} nats a group"
        budget = self.spec.budget
        assert budget is not None  # one of the two is given
        value = getattr(budget, budget.kind)
        return f"to {value:g} of the {budget.kind}" if value <= 1 else f"to {quantity(value)} {budget.kind}"

    def _widths(self) -> str:
        step = self.config.search.round_to
        widths = "any width" if step == 1 else f"widths in multiples of {step or 8}"
        return f"{widths}, readers solved anew" if self.config.repair.update_weights else widths

    def _estimate(self, groups: int) -> float:
        searched = get_method(self.config.name).criterion is None
        a_group = _PASSES_OF_GLOBAL_SEARCH if searched else _PASSES_A_GROUP
        passes = self.samples * (2 + a_group * groups) + self.recovery * _PASSES_OF_RECOVERY
        passes += 0.6 * len(self.splits.test) + _PASSES_OF_TIMING
        training = 3 * self.finetune.epochs * len(self.splits.train)
        return self.seconds * (passes + training)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(1, round(seconds, -1 if seconds > 20 else 0)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
