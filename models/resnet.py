"""ResNet34 (He et al. 2016), torchvision's definition: its weights load unchanged.

The groups are the inner widths of the basic blocks (conv1 -> conv2). The residual stream stays whole, so the
additions stay dense and no index operation is needed at run time.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from zoo.models.groups import NeuronGroup, Reader, Stage, widths_of
from zoo.models.registry import register_model
from zoo.models.surgery import set_widths


class ResNet34(ResNet):  # type: ignore[misc]
    """x (B, 3, H, W) -> logits (B, num_classes)."""

    def __init__(self, widths: Mapping[str, int] | None = None, *, num_classes: int = 1000) -> None:
        super().__init__(BasicBlock, [3, 4, 6, 3], num_classes=num_classes)
        if widths:
            set_widths(self, dict(widths))
            self._initialise()

    def _initialise(self) -> None:
        """torchvision's initialisation again, for the narrow layers' own fan-out."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _blocks(self) -> list[tuple[str, BasicBlock]]:
        layers = (("layer1", self.layer1), ("layer2", self.layer2), ("layer3", self.layer3), ("layer4", self.layer4))
        return [(f"{name}.{i}", block) for name, layer in layers for i, block in enumerate(layer)]

    @property
    def widths(self) -> dict[str, int]:
        """Group name -> number of neurons now."""
        return widths_of(self)

    def neuron_groups(self) -> list[NeuronGroup]:
        return [
            NeuronGroup(name, (block.conv1, block.bn1), (_reader(block),)) for name, block in self._blocks()
        ]

    def stages(self) -> list[Stage]:
        """Stem, two stages a block with the state (block input, hidden map) between them, and the head."""
        stem = (self.conv1, self.bn1, self.relu, self.maxpool)
        stages = [Stage("stem", nn.Sequential(*stem), stem)]
        for name, block in self._blocks():
            modules = (block.conv2, block.bn2, *([block.downsample] if block.downsample is not None else []))
            stages.append(Stage(f"{name}.in", _Enter(block), (block.conv1, block.bn1)))
            stages.append(Stage(f"{name}.out", _Leave(block), modules))
        return [*stages, Stage("head", lambda x: self.fc(self.avgpool(x).flatten(1)), (self.avgpool, self.fc))]


def _reader(block: BasicBlock) -> Reader:
    return Reader.of(block.conv2, block.conv1.out_channels, norm=block.bn2)


class _Enter:
    """x -> (x, hidden map of the block)."""

    def __init__(self, block: BasicBlock) -> None:
        self.block = block

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, F.relu(self.block.bn1(self.block.conv1(x)))


class _Leave:
    """(x, hidden map) -> output of the block."""

    def __init__(self, block: BasicBlock) -> None:
        self.block = block

    def __call__(self, state: tuple[Tensor, Tensor]) -> Tensor:
        x, hidden = state
        shortcut = x if self.block.downsample is None else self.block.downsample(x)
        return F.relu(self.block.bn2(self.block.conv2(hidden)) + shortcut)


@register_model("resnet34")
def resnet34(*, num_classes: int = 1000, widths: Mapping[str, int] | None = None) -> ResNet34:
    """torchvision's ResNet34, or the same with narrower blocks (group name -> neurons)."""
    return ResNet34(widths, num_classes=num_classes)
