"""PointNet++ for classification, single-scale grouping (Qi et al. 2017, PointNet++, section 3 and appendix B.1).

Three set abstractions, SA(512, 0.2, 32, [64, 64, 128]), SA(128, 0.4, 64, [128, 128, 256]) and one over all points,
[256, 512, 1024], then two hidden linear layers of 512 and 256. 1.48 M parameters for 40 classes. Weights of the
well-known PyTorch code (yanx27/Pointnet_Pointnet2_pytorch, pointnet2_cls_ssg without normals) load unchanged. What
differs: the answer is logits, the farthest points start at a fixed place instead of a random one, and the widths are
free. Neighbours are searched in space, never among features, so pruning leaves every neighbourhood as it is.

Any number of points will do: a layer takes as many centres as it can get, all points where there are fewer than it
asks for, and a ball that holds fewer points than it asks for repeats one.
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
    """Centres are sampled, the points of a ball about each are mapped one by one, and their maximum is taken.

    Places (B, 3, N) and features (B, C, N) or None -> centres (B, 3, M) and their features (B, O, M). M is `points`,
    or N if that is less. Without `points` there is one centre, the origin, whose ball holds every point.
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

    def forward(self, places: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        centres, x = self._group(places, features)
        for i in range(len(self.mlp_convs)):
            x = self._map(i, x)
        return centres, x.max(3).values

    def _group(self, places: Tensor, features: Tensor | None) -> tuple[Tensor, Tensor]:
        """Centres (B, 3, M), and what lies about each, [place from the centre, feature], (B, 3 + C, M, k)."""
        if self.points is None:
            centres = places.new_zeros(places.shape[0], 3, 1)
            near, about = places.unsqueeze(2), None if features is None else features.unsqueeze(2)
        else:
            centres = gather(places, farthest_points(places, min(self.points, places.shape[2])))
            index = ball_query(places, centres, self.radius, self.k)
            near = gather(places, index) - centres.unsqueeze(3)
            about = None if features is None else gather(features, index)
        return centres, near if about is None else torch.cat([near, about], 1)

    def _map(self, i: int, x: Tensor) -> Tensor:
        return F.relu(self.mlp_bns[i](self.mlp_convs[i](x)))

    def stages(self, name: str) -> list[Stage]:
        """(places, features), or places alone -> (centres, features); between them (centres, hidden map)."""

        def run(i: int) -> Any:
            def step(state: Any) -> tuple[Tensor, Tensor]:
                if i == 0:
                    state = self._group(*(state if isinstance(state, tuple) else (state, None)))
                centres, x = state
                x = self._map(i, x)
                return centres, x if i + 1 < len(self.mlp_convs) else x.max(3).values

            return step

        return [
            Stage(f"{name}.mlp_convs.{i}", run(i), (conv, bn))
            for i, (conv, bn) in enumerate(zip(self.mlp_convs, self.mlp_bns, strict=True))
        ]


class PointNet2(nn.Module):
    """x (B, 3, N), any N from 1 up -> logits (B, num_classes).

    The radii are meant for clouds in the unit sphere. Raises ZooError if the input is not of that shape.
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
        places, features = self.sa1(x, None)
        places, features = self.sa2(places, features)
        _, features = self.sa3(places, features)
        return self.fc3(self._second(self._first(features.flatten(1))))  # type: ignore[no-any-return]

    def _first(self, x: Tensor) -> Tensor:
        return self.drop(F.relu(self.bn1(self.fc1(x))))  # type: ignore[no-any-return]

    def _second(self, x: Tensor) -> Tensor:
        return self.drop(F.relu(self.bn2(self.fc2(x))))  # type: ignore[no-any-return]

    @property
    def widths(self) -> dict[str, int]:
        """Group name -> number of neurons now."""
        return widths_of(self)

    def stages(self) -> list[Stage]:
        """One stage a layer; up to the third set abstraction the state is (centres, features or hidden map)."""
        return [
            *self.sa1.stages("sa1"),
            *self.sa2.stages("sa2"),
            *self.sa3.stages("sa3"),
            Stage("fc1", lambda state: self._first(state[1].flatten(1)), (self.fc1, self.bn1, self.drop)),
            Stage("fc2", self._second, (self.fc2, self.bn2, self.drop)),
            Stage("fc3", self.fc3, (self.fc3,)),
        ]

    def neuron_groups(self) -> list[NeuronGroup]:
        """Every hidden layer; the last of a set abstraction is read behind the three places of the next."""
        convs: list[Any] = [conv for layer in (self.sa1, self.sa2, self.sa3) for conv in layer.mlp_convs]
        norms = [bn for layer in (self.sa1, self.sa2, self.sa3) for bn in layer.mlp_bns]
        groups = []
        for name, conv, bn, reader in zip(WIDTHS, convs, norms, [*convs[1:], self.fc1], strict=False):
            offset = 3 if reader in (self.sa2.mlp_convs[0], self.sa3.mlp_convs[0]) else 0
            groups.append(NeuronGroup(name, (conv, bn), (Reader.of(reader, conv.out_channels, offset=offset),)))
        for name, layer, bn, reader in (("fc1", self.fc1, self.bn1, self.fc2), ("fc2", self.fc2, self.bn2, self.fc3)):
            groups.append(NeuronGroup(name, (layer, bn), (Reader.of(reader, layer.out_features),)))
        return groups


@register_model("pointnet2")
def pointnet2(*, num_classes: int = 40, widths: Mapping[str, int] | None = None, dropout: float = 0.4) -> PointNet2:
    """PointNet++ with single-scale grouping, or the same with other widths (group name -> neurons).

    Raises ZooError for an unknown group and for a width below 1.
    """
    return PointNet2(all_widths(WIDTHS, widths), num_classes=num_classes, dropout=dropout)
