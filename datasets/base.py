"""`LabelledDataset`, the base class of every data set: samples with labels, and reproducible augmentation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.errors import ZooError
from zoo.utils import generator_for


class LabelledDataset(Dataset[tuple[Tensor, int]]):
    """Pairs (sample, label): point clouds float32 (3, N) or images float32 (3, H, W), and a class index.

    A subclass implements `__len__`, `label`, `load_sample` (the sample as it is evaluated) and `augmented` (the sample
    as it is trained on). With `augment`, the random numbers for sample i are a function of (seed, epoch, i), so that a
    resumed run gets the same samples, with any number of loader workers. `set_epoch` must be called before the loader
    of an epoch starts: persistent workers keep the copy of the data set, and so the epoch, that they were started with.

    classes       the names of the classes, in the order of the labels
    sample_shape  the shape of every sample
    """

    def __init__(
        self, classes: Sequence[str], sample_shape: tuple[int, ...], *, augment: bool = False, seed: int = 0
    ) -> None:
        self.classes = list(classes)
        self.sample_shape = sample_shape
        self.augment = augment
        self.seed = seed
        self.epoch = 0

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, 0 or more, on which the augmentation depends."""
        if epoch < 0:
            raise ZooError(f"an epoch is 0 or more, not {epoch}")
        self.epoch = epoch

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def label(self, index: int) -> int:
        """The class index of sample `index`, without loading the sample."""

    @abstractmethod
    def load_sample(self, index: int) -> Tensor:
        """Sample `index` without augmentation, of shape `sample_shape`."""

    @abstractmethod
    def augmented(self, index: int, generator: torch.Generator) -> Tensor:
        """Sample `index` with random augmentation, of shape `sample_shape`; all random numbers are the generator's."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        if self.augment:
            return self.augmented(index, generator_for("augment", self.seed, self.epoch, index)), self.label(index)
        return self.load_sample(index), self.label(index)
