"""PointNet++ for classification, single-scale grouping (Qi et al. 2017, PointNet++, section 3 and appendix B.1).

It has three set abstraction layers, in the paper's notation SA(number of centres, radius, neighbours, [widths]):
SA(512, 0.2, 32, [64, 64, 128]), SA(128, 0.4, 64, [128, 128, 256]) and SA([256, 512, 1024]) over all points; then two
hidden linear layers of 512 and 256. It has 1.48 M parameters for 40 classes. Weights of the public PyTorch code
(yanx27/Pointnet_Pointnet2_pytorch, pointnet2_cls_ssg without normals) load unchanged.

What differs from that code: the output is logits, farthest point sampling starts at a fixed point and not at a random
one, and the width of every hidden layer is an argument. Neighbours are searched among coordinates and never among
features, so pruning changes no neighbourhood.

A cloud may have any number of points: a layer uses all points as centres if there are fewer than it samples, and a ball
with fewer points than the layer asks for repeats one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.models.groups import NeuronGroup, Reader, Stage, all_widths, widths_of
from zoo.models.point_ops import ball_query, farthest_points, gather
from zoo.models.registry import register_model

LAYERS = ("sa1", "sa2", "sa3")
WIDTHS = {
    **{f"sa1.mlp_convs.{i}": n for i, n in enumerate((64, 64, 128))},
    **{f"sa2.mlp_convs.{i}": n for i, n in enumerate((128, 128, 256))},
    **{f"sa3.mlp_convs.{i}": n for i, n in enumerate((256, 512, 1024))},
    **{"fc1": 512, "fc2": 256},
}


class SetAbstraction(nn.Module):
    """Set abstraction: coordinates (B, 3, N), features (B, C, N) or None -> centres (B, 3, M), features (B, O, M).

    Centres are sampled, a shared perceptron is applied to the points of a ball around each, and the maximum is taken.

    in_channels  C, 0 without features
    widths       numbers of neurons of the perceptron's layers, the last one O
    points       M, the number of centres (all N points if N is less); None: one centre, the origin, and all points
    radius, k    the radius of a ball and the number of points that it yields
    """

    def __init__(
        self, in_channels: int, widths: Sequence[int], *, points: int | None, radius: float = 0.0, k: int = 0
    ) -> None:
        super().__init__()
        self.points = points
        self.radius = radius
        self.k = k
        sizes = [3 + in_channels, *widths]
        self.mlp_convs = nn.ModuleList(nn.Conv2d(sizes[i], n, 1) for i, n in enumerate(widths))
        self.mlp_bns = nn.ModuleList(nn.BatchNorm2d(n) for n in widths)

    def forward(self, coordinates: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        centres, x = self._group(coordinates, features)
        for i in range(len(self.mlp_convs)):
            x = self._layer(i, x)
        return centres, x.max(3).values

    def _group(self, coordinates: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """Centres (B, 3, M), and the points around each as [x - centre, features] (B, 3 + C, M, k)."""
        if self.points is None:
            centres = coordinates.new_zeros(coordinates.shape[0], 3, 1)
            relative, grouped = coordinates.unsqueeze(2), None if features is None else features.unsqueeze(2)
        else:
            centres = gather(coordinates, farthest_points(coordinates, min(self.points, coordinates.shape[2])))
            index = ball_query(coordinates, centres, self.radius, self.k)
            relative = gather(coordinates, index) - centres.unsqueeze(3)
            grouped = None if features is None else gather(features, index)
        return centres, relative if grouped is None else torch.cat([relative, grouped], 1)

    def _layer(self, i: int, x: Tensor) -> Tensor:
        return F.relu(self.mlp_bns[i](self.mlp_convs[i](x)))

    def stages(self, name: str) -> list[Stage]:
        """From (coordinates, features) or coordinates to (centres, features); between them (centres, hidden layer)."""

        def run(i: int) -> Any:
            def step(state: Any) -> tuple[Tensor, Tensor]:
                if i == 0:
                    state = self._group(*(state if isinstance(state, tuple) else (state, None)))
                centres, x = state
                x = self._layer(i, x)
                return centres, x if i + 1 < len(self.mlp_convs) else x.max(3).values

            return step

        return [
            Stage(f"{name}.mlp_convs.{i}", run(i), (conv, bn))
            for i, (conv, bn) in enumerate(zip(self.mlp_convs, self.mlp_bns, strict=True))
        ]


class PointNet2(nn.Module):
    """Point clouds x (B, 3, N), N >= 1, in the unit sphere -> logits (B, num_classes).

    widths   group name (a key of WIDTHS) -> number of neurons
    dropout  after both hidden linear layers

    Raises ZooError if x is not of that shape.
    """

    def __init__(self, widths: Mapping[str, int], *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        one, two, three = ([widths[f"{name}.mlp_convs.{i}"] for i in range(3)] for name in LAYERS)
        self.sa1 = SetAbstraction(0, one, points=512, radius=0.2, k=32)
        self.sa2 = SetAbstraction(one[-1], two, points=128, radius=0.4, k=64)
        self.sa3 = SetAbstraction(two[-1], three, points=None)
        self.fc1 = nn.Linear(three[-1], widths["fc1"])
        self.bn1 = nn.BatchNorm1d(widths["fc1"])
        self.fc2 = nn.Linear(widths["fc1"], widths["fc2"])
        self.bn2 = nn.BatchNorm1d(widths["fc2"])
        self.fc3 = nn.Linear(widths["fc2"], num_classes)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 3 or x.shape[1] != 3 or x.shape[2] == 0:
            raise ZooError(f"PointNet++ takes clouds as (B, 3, N) with at least one point; got {tuple(x.shape)}.")
        centres, features = self.sa1(x, None)
        centres, features = self.sa2(centres, features)
        _, features = self.sa3(centres, features)
        return self.fc3(self._fc2(self._fc1(features.flatten(1))))  # type: ignore[no-any-return]

    def _fc1(self, x: Tensor) -> Tensor:
        return self.drop(F.relu(self.bn1(self.fc1(x))))  # type: ignore[no-any-return]

    def _fc2(self, x: Tensor) -> Tensor:
        return self.drop(F.relu(self.bn2(self.fc2(x))))  # type: ignore[no-any-return]

    widths = property(widths_of)

    def stages(self) -> list[Stage]:
        """One stage per layer; up to the third set abstraction the state is (centres, features or hidden layer)."""
        return [
            *self.sa1.stages("sa1"),
            *self.sa2.stages("sa2"),
            *self.sa3.stages("sa3"),
            Stage("fc1", lambda state: self._fc1(state[1].flatten(1)), (self.fc1, self.bn1, self.drop)),
            Stage("fc2", self._fc2, (self.fc2, self.bn2, self.drop)),
            Stage("fc3", self.fc3, (self.fc3,)),
        ]

    def neuron_groups(self) -> list[NeuronGroup]:
        """Every hidden layer; after a set abstraction, a reader's channels are offset by the 3 coordinates."""
        convs: list[Any] = [conv for layer in (self.sa1, self.sa2, self.sa3) for conv in layer.mlp_convs]
        norms = [bn for layer in (self.sa1, self.sa2, self.sa3) for bn in layer.mlp_bns]
        groups = []
        for name, conv, bn, reader in zip(WIDTHS, convs, norms, [*convs[1:], self.fc1], strict=False):
            offset = 3 if reader in (self.sa2.mlp_convs[0], self.sa3.mlp_convs[0]) else 0
            groups.append(NeuronGroup(name, (conv, bn), (Reader.of(reader, conv.out_channels, offset=offset),)))
        for name, layer, bn, reader in (("fc1", self.fc1, self.bn1, self.fc2), ("fc2", self.fc2, self.bn2, self.fc3)):
            groups.append(NeuronGroup(name, (layer, bn), (Reader.of(reader, layer.out_features),)))
        return groups


@register_model("pointnet2", kind="points")
def pointnet2(*, num_classes: int = 40, widths: Mapping[str, int] | None = None, dropout: float = 0.4) -> PointNet2:
    """PointNet++ with single-scale grouping, or with other `widths` (group name -> number of neurons).

    Raises ZooError for an unknown group and for a width below 1.
    """
    return PointNet2(all_widths(WIDTHS, widths), num_classes=num_classes, dropout=dropout)
