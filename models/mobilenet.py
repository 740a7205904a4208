"""MobileNetV2 (Sandler et al. 2018) and MobileNetV3 (Howard et al. 2019), torchvision's definitions: their weights
load unchanged.

The groups are the hidden widths of the inverted residuals (expansion, depthwise convolution, squeeze-excitation gate;
read by the projection, and by the squeeze-excitation's first layer), the last convolution, and V3's hidden classifier
layer. A first block without expansion reads the stem: its hidden width is the stem's, unless a residual connection
needs the stem whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchvision.models import mobilenetv2, mobilenetv3
from torchvision.ops.misc import SqueezeExcitation

from zoo.models.groups import NeuronGroup, Reader, Stage, widths_of
from zoo.models.registry import register_model
from zoo.models.surgery import set_widths


class _Inverted:
    """One inverted residual, V2 or V3, seen as: expand, then leave (gate, project, add)."""

    def __init__(self, name: str, block: nn.Module) -> None:
        self.name = name
        self.residual = bool(block.use_res_connect)
        v2 = isinstance(block, mobilenetv2.InvertedResidual)
        inside: Any = block.conv if v2 else block.block
        parts: list[nn.Module] = list(inside)
        # V2 ends in (conv, bn), V3 in one Conv2dNormActivation without activation.
        self.project: list[nn.Module] = parts[-2:] if v2 else parts[-1:]
        parts = parts[: -len(self.project)]
        self.gate: SqueezeExcitation | None = None
        if isinstance(parts[-1], SqueezeExcitation):
            self.gate = parts.pop()
        self.expand = parts  # [expansion], depthwise
        self.expands = len(parts) == 2

    @property
    def project_conv(self) -> nn.Conv2d:
        first = self.project[0]
        return first if isinstance(first, nn.Conv2d) else first[0]  # type: ignore[index]

    @property
    def project_norm(self) -> nn.Module:
        return self.project[1] if len(self.project) == 2 else self.project[0][1]  # type: ignore[index]

    def group(self, stem: nn.Module) -> NeuronGroup | None:
        """The hidden width, or None where the stem that it is made of is also read by a residual connection."""
        if not self.expands and self.residual:
            return None
        convs = self.expand if self.expands else [stem, *self.expand]
        writers = [layer for conv in convs for layer in (conv[0], conv[1])]  # type: ignore[index]
        size = writers[0].out_channels
        readers = [Reader.of(self.project_conv, size, norm=self.project_norm)]
        if self.gate is not None:
            writers.append(self.gate.fc2)
            readers.insert(0, Reader.of(self.gate.fc1, size))
        return NeuronGroup(self.name, tuple(writers), tuple(readers))

    def enter(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = x
        for layer in self.expand:
            hidden = layer(hidden)
        return x, hidden

    def leave(self, state: tuple[Tensor, Tensor]) -> Tensor:
        x, y = state
        for layer in ([self.gate] if self.gate is not None else []) + self.project:
            y = layer(y)
        return x + y if self.residual else y

    def stages(self) -> list[Stage]:
        leaving = [*([self.gate] if self.gate is not None else []), *self.project]
        return [
            Stage(f"{self.name}.in", self.enter, tuple(self.expand)),
            Stage(f"{self.name}.out", self.leave, tuple(leaving)),
        ]


class _MobileNet(nn.Module):
    """What V2 and V3 share; mixed into torchvision's classes."""

    features: nn.Sequential
    classifier: nn.Sequential

    def _blocks(self) -> list[_Inverted]:
        return [_Inverted(f"features.{i}", self.features[i]) for i in range(1, len(self.features) - 1)]

    @property
    def widths(self) -> dict[str, int]:
        """Group name -> number of neurons now."""
        return widths_of(self)

    def neuron_groups(self) -> list[NeuronGroup]:
        groups = [group for block in self._blocks() if (group := block.group(self.features[0])) is not None]
        last: Any = self.features[-1]
        linears = [layer for layer in self.classifier if isinstance(layer, nn.Linear)]
        name = f"features.{len(self.features) - 1}"
        groups.append(NeuronGroup(name, (last[0], last[1]), (Reader.of(linears[0], last[0].out_channels),)))
        if len(linears) == 2:
            hidden, head = linears
            groups.append(NeuronGroup("classifier.0", (hidden,), (Reader.of(head, hidden.out_features),)))
        return groups

    def stages(self) -> list[Stage]:
        """Stem, two stages a block with the state (block input, hidden map) between them, last convolution, and the
        classifier layer by layer."""
        stages = [Stage("stem", self.features[0], (self.features[0],))]
        for block in self._blocks():
            stages += block.stages()
        stages.append(Stage("last", self.features[-1], (self.features[-1],)))
        stages.append(Stage("pool", lambda x: x.mean((2, 3)), ()))
        return stages + [Stage(f"classifier.{i}", layer, (layer,)) for i, layer in enumerate(self.classifier)]

    def _narrow(self, widths: Mapping[str, int] | None) -> None:
        if not widths:
            return
        set_widths(self, dict(widths))
        for module in self.modules():  # torchvision's initialisation again, for the narrow layers' own fan-out
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")


class MobileNetV2(_MobileNet, mobilenetv2.MobileNetV2):  # type: ignore[misc]
    """x (B, 3, H, W) -> logits (B, num_classes)."""


class MobileNetV3(_MobileNet, mobilenetv3.MobileNetV3):  # type: ignore[misc]
    """x (B, 3, H, W) -> logits (B, num_classes)."""


@register_model("mobilenet_v2")
def mobilenet_v2(*, num_classes: int = 1000, widths: Mapping[str, int] | None = None) -> MobileNetV2:
    """torchvision's MobileNetV2 1.0, or the same with narrower blocks (group name -> neurons)."""
    model = MobileNetV2(num_classes=num_classes)
    model._narrow(widths)
    return model


@register_model("mobilenet_v3_small")
def mobilenet_v3_small(*, num_classes: int = 1000, widths: Mapping[str, int] | None = None) -> MobileNetV3:
    """torchvision's MobileNetV3-small 1.0, or the same with narrower blocks."""
    return _v3("mobilenet_v3_small", num_classes, widths)


@register_model("mobilenet_v3_large")
def mobilenet_v3_large(*, num_classes: int = 1000, widths: Mapping[str, int] | None = None) -> MobileNetV3:
    """torchvision's MobileNetV3-large 1.0, or the same with narrower blocks."""
    return _v3("mobilenet_v3_large", num_classes, widths)


def _v3(arch: str, num_classes: int, widths: Mapping[str, int] | None) -> MobileNetV3:
    setting, last_channel = mobilenetv3._mobilenet_v3_conf(arch)
    model = MobileNetV3(setting, last_channel, num_classes=num_classes)
    model._narrow(widths)
    return model
