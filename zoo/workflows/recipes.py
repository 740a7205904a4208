"""The recipe that a command trains by: the network's own or that of a file, with what the command changes. Imports no
torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.cards import Value
from zoo.errors import ZooError
from zoo.prune import PAPER, Search
from zoo.train import Recipe, read_recipe, recipe_for

RECOVERY_SAMPLES = 512
RECOVERY_PASSES = 3


@dataclass(frozen=True)
class Finetune:
    """The training of a pruned network after the cut.

    epochs    of fine-tuning with the network's fine-tuning recipe, on labelled samples; 0 is none
    distil    the fraction of its loss that is the divergence from the unpruned network's outputs
    recovery  the number of training samples, without their labels, for three passes towards the unpruned network's
              outputs right after the cut; None is 512, and 0 where fine-tuning follows or the search is the paper's
    """

    epochs: int = 0
    distil: float = 0.0
    recovery: int | None = None

    def __post_init__(self) -> None:
        if self.distil and not self.epochs:
            raise ZooError("`finetune_distil` is a part of the fine-tuning's loss: give `finetune_epochs` as well")

    def recovery_samples(self, search: Search, available: int) -> int:
        """The number of samples of the recovery, of those that there are."""
        if self.recovery is not None:
            return min(self.recovery, available)
        return 0 if self.epochs or search == PAPER else min(RECOVERY_SAMPLES, available)

    def recipe(self, arch: str, dataset: str) -> Recipe:
        """The network's fine-tuning recipe with these epochs and this distillation."""
        return replace(recipe_for("finetune", arch, dataset), epochs=self.epochs, distil=self.distil)


def resolve_recipe(
    kind: str, arch: str, dataset: str, file: Path | None, changes: Mapping[str, Any] | None
) -> tuple[Recipe, Recipe]:
    """The network's recipe of kind "train" or "finetune", or that of a file; and the same with the changes."""
    recipe = read_recipe(file, kind, dataset) if file else recipe_for(kind, arch, dataset)
    changed = replace(recipe, **{key: value for key, value in (changes or {}).items() if value is not None})
    if kind == "train" and changed.distil:
        raise ZooError("a recipe to train has no distil: there is a parent to learn from only in zoo finetune")
    return recipe, changed


def recipe_on_command_line(base: Recipe, recipe: Recipe) -> dict[str, Value]:
    """The fields of a recipe that the command states: the first three, and others that differ from the base's."""
    always = ("epochs", "lr", "batch_size")
    others = ("accumulate", "average", "precision", "distil")
    names = [*always, *(name for name in others if getattr(recipe, name) != getattr(base, name))]
    return {name: getattr(recipe, name) for name in names}
