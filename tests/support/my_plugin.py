"""A user's own criterion, data set and network, registered as a plugin does it (tests/utils/test_plugins.py)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo.datasets import DatasetInfo, LabelledDataset, register_dataset
from zoo.models import NeuronGroup, Reader, register_model, widths_of
from zoo.prune import GroupEvaluator, PruningPath, register_method


@register_method("coin")
def coin(evaluator: GroupEvaluator, generator: torch.Generator) -> PruningPath:
    """Neurons in random order."""
    return PruningPath.from_ranking(torch.randperm(evaluator.size, generator=generator))


@register_dataset(
    DatasetInfo(
        name="blobs",
        kind="points",
        num_classes=2,
        sample_shape=(3, 8),
        description="clouds of 8 points, wide or tall",
        terms="made here",
        options=("points",),
    )
)
class Blobs(LabelledDataset):
    """Sample i has class i % 2: its points are spread along x for class 0, along y for class 1."""

    def __init__(self, split: str, points: int = 8, augment: bool = False) -> None:
        super().__init__(("wide", "tall"), (3, points), augment=augment)
        self.offset = 0 if split == "train" else 1000

    def __len__(self) -> int:
        return 40

    def label(self, index: int) -> int:
        return index % 2

    def load_sample(self, index: int) -> Tensor:
        cloud = 0.1 * torch.randn(self.sample_shape, generator=torch.Generator().manual_seed(self.offset + index))
        cloud[self.label(index)] *= 10
        return cloud

    def augmented(self, index: int, generator: torch.Generator) -> Tensor:
        return self.load_sample(index)


@register_model("tiny")
def tiny(*, num_classes: int = 2, widths: Mapping[str, int] | None = None) -> nn.Module:
    return Tiny({"hidden": 12, **(widths or {})}["hidden"], num_classes)


class Tiny(nn.Module):
    """(B, 3, N) -> (B, num_classes): one layer for each point, the maximum over points, a linear layer."""

    def __init__(self, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(3, hidden, 1)
        self.out = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x).relu().amax(2))

    @property
    def widths(self) -> dict[str, int]:
        return widths_of(self)

    def neuron_groups(self) -> list[NeuronGroup]:
        return [NeuronGroup("hidden", (self.hidden,), (Reader.of(self.out, self.hidden.out_channels),))]
