"""A part of the training split held out, for every choice that is made before the test split is looked at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.datasets.base import LabelledDataset
from zoo.errors import ZooError
from zoo.utils import generator_for


class Subset(LabelledDataset):
    """Some samples of a data set, in the order of `indices`; they are read and varied as there."""

    def __init__(self, whole: LabelledDataset, indices: Sequence[int]) -> None:
        super().__init__(whole.classes, whole.sample_shape, augment=whole.augment, seed=whole.seed)
        self.whole, self.indices = whole, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def label(self, index: int) -> int:
        return self.whole.label(self.indices[index])

    def load_sample(self, index: int) -> Tensor:
        return self.whole.load_sample(self.indices[index])

    def augmented(self, index: int, generator: torch.Generator) -> Tensor:
        return self.whole.augmented(self.indices[index], generator)


def train_val_split(train: LabelledDataset, part: float) -> tuple[Subset, Subset]:
    """The training split without a part of it, and that part: of each class as near to `part` as its number allows.

    Which samples are held out depends on the data alone, on no run's seed: all choices are made on the same ones.

    Raises ZooError for a part that is not between 0 and 1, or that leaves nothing on one side.
    """
    if not 0 < part < 1:
        raise ZooError(f"the validation part is {part}: give a number between 0 and 1, for instance 0.1")
    of_class: dict[int, list[int]] = {}
    for index in range(len(train)):
        of_class.setdefault(train.label(index), []).append(index)
    held: list[int] = []
    for label, indices in sorted(of_class.items()):
        order = torch.randperm(len(indices), generator=generator_for("held out", label)).tolist()
        held += [indices[i] for i in order[: round(part * len(indices))]]
    chosen = set(held)
    kept = [index for index in range(len(train)) if index not in chosen]
    if not held or not kept:
        raise ZooError(f"{part} of {len(train)} training samples leaves nothing on one side: give another part")
    return Subset(train, kept), Subset(train, sorted(held))
