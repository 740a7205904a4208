"""MobileNetV2 (Sandler et al. 2018) and MobileNetV3 (Howard et al. 2019), torchvision's definitions.

torchvision's weights load unchanged. What differs from torchvision: the widths of the groups are an argument. The
groups are

* the hidden layer of each inverted residual: written by the expansion, the depthwise convolution and the second layer
  of the squeeze-excitation, read by the projection and by the first layer of the squeeze-excitation;
* the last convolution;
* the hidden layer of MobileNetV3's classifier.

The hidden layer of a first block without expansion is the stem, and is no group where a residual connection reads the
stem too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchvision.models import mobilenetv2, mobilenetv3
from torchvision.ops.misc import SqueezeExcitation

from zoo.models.groups import NeuronGroup, Reader, Stage, widths_of
from zoo.models.registry import register_model
from zoo.models.surgery import set_torchvision_widths


class _Inverted:
    """The parts of an inverted residual of V2 or V3: `hidden_convs` (expansion, depthwise), `gate`, `project`."""

    def __init__(self, name: str, block: nn.Module) -> None:
        self.name = name
        self.residual = bool(block.use_res_connect)
        v2 = isinstance(block, mobilenetv2.InvertedResidual)
        block_layers: Any = block.conv if v2 else block.block
        parts: list[nn.Module] = list(block_layers)
        # V2 ends with (conv, bn), V3 with a Conv2dNormActivation without activation.
        self.project: list[nn.Module] = parts[-2:] if v2 else parts[-1:]
        parts = parts[: -len(self.project)]
        self.gate: SqueezeExcitation | None = None
        if isinstance(parts[-1], SqueezeExcitation):
            self.gate = parts.pop()
        self.hidden_convs = parts  # expansion (if there is one), depthwise
        self.has_expansion = len(parts) == 2

    @property
    def project_conv(self) -> nn.Conv2d:
        first = self.project[0]
        return first if isinstance(first, nn.Conv2d) else first[0]  # type: ignore[index]

    @property
    def project_norm(self) -> nn.Module:
        return self.project[1] if len(self.project) == 2 else self.project[0][1]  # type: ignore[index]

    def group(self, stem: nn.Module) -> NeuronGroup | None:
        """The hidden layer, or None if it is the stem and a residual connection reads the stem too."""
        if not self.has_expansion and self.residual:
            return None
        convs = self.hidden_convs if self.has_expansion else [stem, *self.hidden_convs]
        writers = [layer for conv in convs for layer in (conv[0], conv[1])]  # type: ignore[index]
        size = writers[0].out_channels
        readers = [Reader.of(self.project_conv, size, norm=self.project_norm)]
        if self.gate is not None:
            writers.append(self.gate.fc2)
            readers.insert(0, Reader.of(self.gate.fc1, size))
        return NeuronGroup(self.name, tuple(writers), tuple(readers))

    def _expand(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = x
        for layer in self.hidden_convs:
            hidden = layer(hidden)
        return x, hidden

    def _project(self, state: tuple[Tensor, Tensor]) -> Tensor:
        x, y = state
        for layer in (*self._gate(), *self.project):
            y = layer(y)
        return x + y if self.residual else y

    def stages(self) -> list[Stage]:
        """Two stages with the state (block input, hidden layer) between them."""
        return [
            Stage(f"{self.name}.in", self._expand, tuple(self.hidden_convs)),
            Stage(f"{self.name}.out", self._project, (*self._gate(), *self.project)),
        ]

    def _gate(self) -> list[nn.Module]:
        return [] if self.gate is None else [self.gate]


class _MobileNet(nn.Module):
    """Groups and stages of both versions, a mixin for torchvision's classes."""

    features: nn.Sequential
    classifier: nn.Sequential

    def _blocks(self) -> list[_Inverted]:
        return [_Inverted(f"features.{i}", self.features[i]) for i in range(1, len(self.features) - 1)]

    widths = property(widths_of)

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
        """Stem, two stages per block, last convolution, pooling, and one stage per layer of the classifier."""
        stages = [Stage("stem", self.features[0], (self.features[0],))]
        for block in self._blocks():
            stages += block.stages()
        stages.append(Stage("last", self.features[-1], (self.features[-1],)))
        stages.append(Stage("pool", lambda x: x.mean((2, 3)), ()))
        return stages + [Stage(f"classifier.{i}", layer, (layer,)) for i, layer in enumerate(self.classifier)]


class MobileNetV2(_MobileNet, mobilenetv2.MobileNetV2):  # type: ignore[misc]
    """Images x (B, 3, H, W) -> logits (B, num_classes)."""


class MobileNetV3(_MobileNet, mobilenetv3.MobileNetV3):  # type: ignore[misc]
    """Images x (B, 3, H, W) -> logits (B, num_classes)."""


@register_model("mobilenet_v2", kind="images")
def mobilenet_v2(*, num_classes: int = 1000, widths: Mapping[str, int] | None = None) -> MobileNetV2:
    """torchvision's MobileNetV2 1.0, or with narrower layers by `widths` (group name -> number of neurons)."""
    model = MobileNetV2(num_classes=num_classes)
    set_torchvision_widths(model, widths)
    return model


@register_model("mobilenet_v3_small", kind="images")
def mobilenet_v3_small(*, num_classes: int = 1000, widths: Mapping[str, int] | None = None) -> MobileNetV3:
    """torchvision's MobileNetV3-small 1.0, or with narrower layers by `widths`."""
    return _v3("mobilenet_v3_small", num_classes, widths)


@register_model("mobilenet_v3_large", kind="images")
def mobilenet_v3_large(*, num_classes: int = 1000, widths: Mapping[str, int] | None = None) -> MobileNetV3:
    """torchvision's MobileNetV3-large 1.0, or with narrower layers by `widths`."""
    return _v3("mobilenet_v3_large", num_classes, widths)


def _v3(arch: str, num_classes: int, widths: Mapping[str, int] | None) -> MobileNetV3:
    setting, last_channel = mobilenetv3._mobilenet_v3_conf(arch)
    model = MobileNetV3(setting, last_channel, num_classes=num_classes)
    set_torchvision_widths(model, widths)
    return model
