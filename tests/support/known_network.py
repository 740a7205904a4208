"""A network and samples that are the same numbers on every machine, to compare with what earlier versions did."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.models import NeuronGroup, Reader


def known_numbers(*shape: int, seed: int) -> Tensor:
    """Multiples of 1/32 about 0, in float64, without a random generator."""
    count = torch.Size(shape).numel()
    k = torch.arange(1, count + 1)
    return (((k * k * (13 + seed) + k * (7 + 3 * seed)) % 61 - 30) / 32).double().view(shape)


class KnownNetwork(nn.Module):
    """Two groups, of 20 and 13 neurons, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.o = nn.Linear(6, 20).double(), nn.Linear(20, 13).double(), nn.Linear(13, 3).double()
        with torch.no_grad():
            for seed, parameter in enumerate(self.parameters()):
                parameter.copy_(known_numbers(*parameter.shape, seed=seed))

    def forward(self, x: Tensor) -> Tensor:
        return self.o(torch.relu(self.b(torch.relu(self.a(x))))) / 8  # type: ignore[no-any-return]

    @property
    def widths(self) -> dict[str, int]:
        return {"a": self.a.out_features, "b": self.b.out_features}

    def neuron_groups(self) -> list[NeuronGroup]:
        return [
            NeuronGroup("a", (self.a,), (Reader.of(self.b, self.a.out_features),)),
            NeuronGroup("b", (self.b,), (Reader.of(self.o, self.b.out_features),)),
        ]


def known_samples() -> tuple[Tensor, Tensor]:
    """101 samples, and the classes that the network gives most of them."""
    x = known_numbers(101, 6, seed=9) + known_numbers(101, 1, seed=4)
    with torch.no_grad():
        labels = KnownNetwork()(x).argmax(1)
    labels[::7] = 1
    return x, labels
