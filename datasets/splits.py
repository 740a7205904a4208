"""A validation part of the training split, on which choices are made without using the test split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.datasets.base import LabelledDataset
from zoo.errors import ZooError
from zoo.utils import generator_for


class Subset(LabelledDataset):
    """The samples of a data set with the given indices, in that order, with the data set's own augmentation."""

    def __init__(self, dataset: LabelledDataset, indices: Sequence[int]) -> None:
        super().__init__(dataset.classes, dataset.sample_shape, augment=dataset.augment, seed=dataset.seed)
        self.dataset, self.indices = dataset, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def label(self, index: int) -> int:
        return self.dataset.label(self.indices[index])

    def load_sample(self, index: int) -> Tensor:
        return self.dataset.load_sample(self.indices[index])

    def augmented(self, index: int, generator: torch.Generator) -> Tensor:
        return self.dataset.augmented(self.indices[index], generator)


def train_val_split(train: LabelledDataset, fraction: float) -> tuple[Subset, Subset]:
    """Split a training split at random into (training, validation), with the same fraction of every class.

    Of the n samples of a class, round(fraction * n) go into the validation part. They depend on the data alone and not
    on the seed of a run, so that all choices are made on the same samples. The samples of a smaller fraction are among
    those of a larger one.

    Raises ZooError for a fraction that is not between 0 and 1, or that leaves one of the parts empty.
    """
    if not 0 < fraction < 1:
        raise ZooError(f"the validation part is {fraction}: give a number between 0 and 1, for instance 0.1")
    by_class: dict[int, list[int]] = {}
    for index in range(len(train)):
        by_class.setdefault(train.label(index), []).append(index)
    val: list[int] = []
    for label, indices in sorted(by_class.items()):
        # "held out" seeds the generator: changing it changes the split.
        order = torch.randperm(len(indices), generator=generator_for("held out", label)).tolist()
        val += [indices[i] for i in order[: round(fraction * len(indices))]]
    held_out = set(val)
    train_indices = [index for index in range(len(train)) if index not in held_out]
    if not val or not train_indices:
        raise ZooError(f"{fraction} of {len(train)} training samples leaves nothing on one side: give another part")
    return Subset(train, train_indices), Subset(train, sorted(val))
