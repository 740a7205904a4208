"""VGG-11 with batch norm (Simonyan & Zisserman 2015, configuration A), torchvision's definition.

With ``head="linear"`` it is the CIFAR-10 network of the paper (Ye, Wu, Liu 2020, section 3.1): one linear layer on the
512 pooled channels, as is usual for 32 x 32 images. With ``head="full"`` it is torchvision's vgg11_bn, whose weights
load unchanged; its first linear layer reads a flattened 7 x 7 feature map. What differs from torchvision: the widths of
the groups are an argument. The groups are the eight convolutions, and the two hidden linear layers of the full head.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import nn
from torchvision.models import vgg

from zoo.errors import ZooError
from zoo.models.groups import NeuronGroup, Reader, Stage, widths_of
from zoo.models.registry import register_model
from zoo.models.surgery import set_widths

HEADS = ("linear", "full")


class VGG(vgg.VGG):  # type: ignore[misc]
    """Images x (B, 3, H, W), H and W at least 32 -> logits (B, num_classes).

    widths  group name -> number of neurons, at most the dense width
    head    "linear" or "full"
    """

    def __init__(self, widths: Mapping[str, int] | None = None, *, num_classes: int = 10, head: str = "linear") -> None:
        if head not in HEADS:
            raise ZooError(f"The head of vgg11 is one of {', '.join(HEADS)}; got '{head}'.")
        features = vgg.make_layers(vgg.cfgs["A"], batch_norm=True)
        if head == "full":
            super().__init__(features, num_classes=num_classes, init_weights=False)  # initialised below
        else:  # without torchvision's __init__, which would make the 120 M weights of the full head
            nn.Module.__init__(self)
            self.features = features
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Sequential(nn.Linear(512, num_classes))
        if widths:
            set_widths(self, dict(widths))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    widths = property(widths_of)

    def _convs(self) -> list[int]:
        return [i for i, layer in enumerate(self.features) if isinstance(layer, nn.Conv2d)]

    def neuron_groups(self) -> list[NeuronGroup]:
        """The eight convolutions, and the hidden linear layers where the head has them."""
        convs = self._convs()
        linears = [(i, layer) for i, layer in enumerate(self.classifier) if isinstance(layer, nn.Linear)]
        groups = []
        for i, after in zip(convs, [*convs[1:], None], strict=True):
            size = int(self.features[i].out_channels)
            if after is not None:
                reader = Reader.of(self.features[after], size)
            else:  # a flattened feature map: the positions of channel i belong to neuron i
                head = linears[0][1]
                reader = Reader(head, torch.arange(head.in_features, device="cpu").view(size, -1))
            groups.append(NeuronGroup(f"features.{i}", (self.features[i], self.features[i + 1]), (reader,)))
        for (i, layer), (_, following) in pairwise(linears):
            groups.append(NeuronGroup(f"classifier.{i}", (layer,), (Reader.of(following, layer.out_features),)))
        return groups

    def stages(self) -> list[Stage]:
        """One stage per convolution and the layers that follow it, one for pooling, one per layer of the classifier."""
        bounds = [*self._convs(), len(self.features)]
        stages = []
        for start, end in pairwise(bounds):
            part = self.features[start:end]
            stages.append(Stage(f"features.{start}", part, tuple(part)))
        stages.append(Stage("pool", lambda x: self.avgpool(x).flatten(1), (self.avgpool,)))
        return stages + [Stage(f"classifier.{i}", layer, (layer,)) for i, layer in enumerate(self.classifier)]


@register_model("vgg11", kind="images")
def vgg11(*, num_classes: int = 10, widths: Mapping[str, int] | None = None, head: str = "linear") -> VGG:
    """VGG-11 with batch norm, or with narrower layers by `widths` (group name -> number of neurons).

    Raises ZooError for a head that is neither "linear" nor "full".
    """
    return VGG(widths, num_classes=num_classes, head=head)
