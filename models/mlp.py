"""A multilayer perceptron with two hidden layers of 100 neurons: the network on which the paper checks its convergence
rate numerically (Ye, Wu, Liu 2020, section 2.3). The weights are initialised as PyTorch's nn.Linear is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo.models.groups import NeuronGroup, Reader, Stage, all_widths, widths_of
from zoo.models.registry import register_model

WIDTHS = {"hidden1": 100, "hidden2": 100}


class MLP(nn.Module):
    """x (B, in_features) -> (B, num_classes), with ReLU after both hidden layers."""

    def __init__(self, widths: Mapping[str, int], *, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(in_features, widths["hidden1"])
        self.hidden2 = nn.Linear(widths["hidden1"], widths["hidden2"])
        self.out = nn.Linear(widths["hidden2"], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.hidden2(torch.relu(self.hidden1(x)))))  # type: ignore[no-any-return]

    widths = property(widths_of)

    def neuron_groups(self) -> list[NeuronGroup]:
        return [
            NeuronGroup("hidden1", (self.hidden1,), (Reader.of(self.hidden2, self.hidden1.out_features),)),
            NeuronGroup("hidden2", (self.hidden2,), (Reader.of(self.out, self.hidden2.out_features),)),
        ]

    def stages(self) -> list[Stage]:
        return [
            Stage("hidden1", lambda x: torch.relu(self.hidden1(x)), (self.hidden1,)),
            Stage("hidden2", lambda x: torch.relu(self.hidden2(x)), (self.hidden2,)),
            Stage("out", self.out, (self.out,)),
        ]


@register_model("mlp")
def mlp(*, in_features: int = 10, num_classes: int = 1, widths: Mapping[str, int] | None = None) -> MLP:
    """The network with two hidden layers of 100 neurons, or of other `widths` (group name -> number of neurons).

    Raises ZooError for an unknown group and for a width below 1.
    """
    return MLP(all_widths(WIDTHS, widths), in_features=in_features, num_classes=num_classes)
