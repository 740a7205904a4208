"""What every data set of the zoo answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.errors import ZooError
from zoo.utils import generator_for


class LabelledDataset(Dataset[tuple[Tensor, int]]):
    """Samples with a class each: point clouds float32 (3, N), or images float32 (3, H, W).

    A kind of data says how sample i is stored (`load_sample`) and how a training sample varies (`augmented`). With
    `augment`, the randomness of sample i is a function of (seed, epoch, i): a resumed run, and any
    number of loader workers, see the same data. Call `set_epoch` before the loader of an epoch starts;
    persistent workers keep the copy, and so the epoch, that they were started with.
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
        """Chooses the epoch whose augmentation the samples get; without `augment` it changes nothing."""
        if epoch < 0:
            raise ZooError(f"an epoch is 0 or more, not {epoch}")
        self.epoch = epoch

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def label(self, index: int) -> int:
        """The class of sample `index`, without reading it."""

    @abstractmethod
    def load_sample(self, index: int) -> Tensor:
        """Sample `index` as it is evaluated, of `sample_shape`."""

    @abstractmethod
    def augmented(self, index: int, generator: torch.Generator) -> Tensor:
        """Sample `index` as it is trained on, of `sample_shape`, varied by `generator` alone."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        index %= len(self)
        if self.augment:
            return self.augmented(index, generator_for("augment", self.seed, self.epoch, index)), self.label(index)
        return self.load_sample(index), self.label(index)
