"""ResNet34 (He et al. 2016, Deep Residual Learning for Image Recognition), torchvision's definition.

torchvision's weights load unchanged. What differs from torchvision: the inner width of each basic block (conv1 ->
conv2) is an argument. These inner layers are the groups; the residual stream is not pruned, so that the additions stay
dense and need no index operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from zoo.models.groups import NeuronGroup, Reader, Stage, widths_of
from zoo.models.registry import register_model
from zoo.models.surgery import set_torchvision_widths


class ResNet34(ResNet):  # type: ignore[misc]
    """Images x (B, 3, H, W) -> logits (B, num_classes); `widths`: group name -> number of neurons."""

    def __init__(self, widths: Mapping[str, int] | None = None, *, num_classes: int = 1000) -> None:
        super().__init__(BasicBlock, [3, 4, 6, 3], num_classes=num_classes)
        set_torchvision_widths(self, widths)

    def _blocks(self) -> list[tuple[str, BasicBlock]]:
        layers = (("layer1", self.layer1), ("layer2", self.layer2), ("layer3", self.layer3), ("layer4", self.layer4))
        return [(f"{name}.{i}", block) for name, layer in layers for i, block in enumerate(layer)]

    widths = property(widths_of)

    def neuron_groups(self) -> list[NeuronGroup]:
        """The inner layer of each basic block, called by the name of the block."""
        groups = []
        for name, block in self._blocks():
            reader = Reader.of(block.conv2, block.conv1.out_channels, norm=block.bn2)
            groups.append(NeuronGroup(name, (block.conv1, block.bn1), (reader,)))
        return groups

    def stages(self) -> list[Stage]:
        """Stem, two stages per block with the state (block input, inner layer) between them, and head."""
        stem = (self.conv1, self.bn1, self.relu, self.maxpool)
        stages = [Stage("stem", nn.Sequential(*stem), stem)]
        for name, block in self._blocks():
            modules = (block.conv2, block.bn2, *([block.downsample] if block.downsample is not None else []))
            stages.append(Stage(f"{name}.in", partial(_conv1_stage, block), (block.conv1, block.bn1)))
            stages.append(Stage(f"{name}.out", partial(_conv2_stage, block), modules))
        return [*stages, Stage("head", lambda x: self.fc(self.avgpool(x).flatten(1)), (self.avgpool, self.fc))]


def _conv1_stage(block: BasicBlock, x: Tensor) -> tuple[Tensor, Tensor]:
    return x, F.relu(block.bn1(block.conv1(x)))


def _conv2_stage(block: BasicBlock, state: tuple[Tensor, Tensor]) -> Tensor:
    x, inner = state
    shortcut = x if block.downsample is None else block.downsample(x)
    return F.relu(block.bn2(block.conv2(inner)) + shortcut)


@register_model("resnet34", kind="images")
def resnet34(*, num_classes: int = 1000, widths: Mapping[str, int] | None = None) -> ResNet34:
    """torchvision's ResNet34, or with narrower blocks by `widths` (group name -> number of neurons)."""
    return ResNet34(widths, num_classes=num_classes)
