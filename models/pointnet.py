"""PointNet for classification (Qi et al. 2017, PointNet: Deep Learning on Point Sets, section 4.2 and figure 2).

This is the form of the public PyTorch codes (fxia22/pointnet.pytorch, yanx27/Pointnet_Pointnet2_pytorch): a 3 x 3 input
transform, a layer of 64 channels, a 64 x 64 feature transform, two layers of 128 and 1024 channels, the maximum over
the points, and two hidden linear layers of 512 and 256. It has 3.47 M parameters for 40 classes. Weights of either code
(with three input channels) load unchanged.

What differs from these codes: the output is logits and not their log softmax; the feature transform is not returned, so
that training adds no penalty that makes it orthogonal; and the width of every hidden layer but one is an argument.

That layer is conv1, whose 64 channels the feature transform multiplies. The transform is another 64 x 64 matrix for
every cloud, so the layer that mixes these channels has no weight whose columns could be removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.models.groups import NeuronGroup, Reader, Stage, all_widths, widths_of
from zoo.models.registry import register_model

FEATURES = 64  # channels that the feature transform multiplies
TRANSFORM = {"conv1": 64, "conv2": 128, "conv3": 1024, "fc1": 512, "fc2": 256}
WIDTHS = {
    **{f"feat.stn.{name}": n for name, n in TRANSFORM.items()},
    **{f"feat.fstn.{name}": n for name, n in TRANSFORM.items()},
    **{"feat.conv2": 128, "feat.conv3": 1024, "fc1": 512, "fc2": 256},
}


class Transform(nn.Module):
    """The transform network (T-net): x (B, C, N) -> one matrix per cloud (B, C, C), the identity plus its output."""

    def __init__(self, channels: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.channels = channels
        self.conv1 = nn.Conv1d(channels, widths["conv1"], 1)
        self.conv2 = nn.Conv1d(widths["conv1"], widths["conv2"], 1)
        self.conv3 = nn.Conv1d(widths["conv2"], widths["conv3"], 1)
        self.fc1 = nn.Linear(widths["conv3"], widths["fc1"])
        self.fc2 = nn.Linear(widths["fc1"], widths["fc2"])
        self.fc3 = nn.Linear(widths["fc2"], channels * channels)
        self.bn1 = nn.BatchNorm1d(widths["conv1"])
        self.bn2 = nn.BatchNorm1d(widths["conv2"])
        self.bn3 = nn.BatchNorm1d(widths["conv3"])
        self.bn4 = nn.BatchNorm1d(widths["fc1"])
        self.bn5 = nn.BatchNorm1d(widths["fc2"])

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        x = self._pool(x)
        x = F.relu(self.bn5(self.fc2(F.relu(self.bn4(self.fc1(x))))))
        return self._matrix(x)

    def _pool(self, x: Tensor) -> Tensor:
        return F.relu(self.bn3(self.conv3(x))).max(2).values

    def _matrix(self, x: Tensor) -> Tensor:
        identity = torch.eye(self.channels, dtype=x.dtype, device=x.device)
        return self.fc3(x).view(-1, self.channels, self.channels) + identity  # type: ignore[no-any-return]

    def stages(self, name: str) -> list[Stage]:
        """From x to the transformed x; between the stages the state is (x, hidden layer)."""

        def enter(x: Tensor) -> tuple[Tensor, Tensor]:
            return x, F.relu(self.bn1(self.conv1(x)))

        def leave(state: tuple[Tensor, Tensor]) -> Tensor:
            return transformed(state[0], self._matrix(state[1]))

        def on(step: Callable[[Tensor], Tensor]) -> Callable[[tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
            return lambda state: (state[0], step(state[1]))

        return [
            Stage(f"{name}.conv1", enter, (self.conv1, self.bn1)),
            Stage(f"{name}.conv2", on(lambda h: F.relu(self.bn2(self.conv2(h)))), (self.conv2, self.bn2)),
            Stage(f"{name}.conv3", on(self._pool), (self.conv3, self.bn3)),
            Stage(f"{name}.fc1", on(lambda h: F.relu(self.bn4(self.fc1(h)))), (self.fc1, self.bn4)),
            Stage(f"{name}.fc2", on(lambda h: F.relu(self.bn5(self.fc2(h)))), (self.fc2, self.bn5)),
            Stage(f"{name}.fc3", leave, (self.fc3,)),
        ]

    def neuron_groups(self, name: str) -> list[NeuronGroup]:
        return [
            _group(f"{name}.conv1", self.conv1, self.bn1, self.conv2),
            _group(f"{name}.conv2", self.conv2, self.bn2, self.conv3),
            _group(f"{name}.conv3", self.conv3, self.bn3, self.fc1),
            _group(f"{name}.fc1", self.fc1, self.bn4, self.fc2),
            _group(f"{name}.fc2", self.fc2, self.bn5, self.fc3),
        ]


def transformed(x: Tensor, matrix: Tensor) -> Tensor:
    """Each point times the matrix of its cloud, x_n^T M: x (B, C, N), matrix (B, C, C) -> (B, C, N)."""
    return torch.bmm(matrix.transpose(1, 2), x)


def _group(name: str, layer: nn.Conv1d | nn.Linear, bn: nn.Module, reader: nn.Module) -> NeuronGroup:
    return NeuronGroup(name, (layer, bn), (Reader.of(reader, len(layer.weight)),))


class Features(nn.Module):
    """Point clouds x (B, 3, N) -> the global feature of each (B, width of conv3)."""

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.stn = Transform(3, {name: widths[f"feat.stn.{name}"] for name in TRANSFORM})
        self.conv1 = nn.Conv1d(3, FEATURES, 1)
        self.fstn = Transform(FEATURES, {name: widths[f"feat.fstn.{name}"] for name in TRANSFORM})
        self.conv2 = nn.Conv1d(FEATURES, widths["feat.conv2"], 1)
        self.conv3 = nn.Conv1d(widths["feat.conv2"], widths["feat.conv3"], 1)
        self.bn1 = nn.BatchNorm1d(FEATURES)
        self.bn2 = nn.BatchNorm1d(widths["feat.conv2"])
        self.bn3 = nn.BatchNorm1d(widths["feat.conv3"])

    def forward(self, x: Tensor) -> Tensor:
        x = transformed(x, self.stn(x))
        x = F.relu(self.bn1(self.conv1(x)))
        x = transformed(x, self.fstn(x))
        return self._pool(F.relu(self.bn2(self.conv2(x))))

    def _pool(self, x: Tensor) -> Tensor:
        return self.bn3(self.conv3(x)).max(2).values  # type: ignore[no-any-return]

    def stages(self) -> list[Stage]:
        return [
            *self.stn.stages("feat.stn"),
            Stage("feat.conv1", lambda x: F.relu(self.bn1(self.conv1(x))), (self.conv1, self.bn1)),
            *self.fstn.stages("feat.fstn"),
            Stage("feat.conv2", lambda x: F.relu(self.bn2(self.conv2(x))), (self.conv2, self.bn2)),
            Stage("feat.conv3", self._pool, (self.conv3, self.bn3)),
        ]


class PointNet(nn.Module):
    """Point clouds x (B, 3, N), N >= 1 -> logits (B, num_classes).

    widths   group name (a key of WIDTHS) -> number of neurons
    dropout  after fc2

    Raises ZooError if x is not of that shape.
    """

    def __init__(self, widths: Mapping[str, int], *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.feat = Features(widths)
        self.fc1 = nn.Linear(widths["feat.conv3"], widths["fc1"])
        self.fc2 = nn.Linear(widths["fc1"], widths["fc2"])
        self.fc3 = nn.Linear(widths["fc2"], num_classes)
        self.bn1 = nn.BatchNorm1d(widths["fc1"])
        self.bn2 = nn.BatchNorm1d(widths["fc2"])
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 3 or x.shape[1] != 3 or x.shape[2] == 0:
            raise ZooError(f"PointNet takes clouds as (B, 3, N) with at least one point; got {tuple(x.shape)}.")
        return self.fc3(self._fc2(self._fc1(self.feat(x))))  # type: ignore[no-any-return]

    def _fc1(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.fc1(x)))

    def _fc2(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.dropout(self.fc2(x))))  # dropout before batch norm, as in both public codes

    widths = property(widths_of)

    def stages(self) -> list[Stage]:
        """One stage per layer; inside the two transforms the state is (x, hidden layer)."""
        return [
            *self.feat.stages(),
            Stage("fc1", self._fc1, (self.fc1, self.bn1)),
            Stage("fc2", self._fc2, (self.fc2, self.bn2, self.dropout)),
            Stage("fc3", self.fc3, (self.fc3,)),
        ]

    def neuron_groups(self) -> list[NeuronGroup]:
        """The hidden layers of both transforms, conv2, conv3 (read behind the maximum over points), fc1 and fc2."""
        return [
            *self.feat.stn.neuron_groups("feat.stn"),
            *self.feat.fstn.neuron_groups("feat.fstn"),
            _group("feat.conv2", self.feat.conv2, self.feat.bn2, self.feat.conv3),
            _group("feat.conv3", self.feat.conv3, self.feat.bn3, self.fc1),
            _group("fc1", self.fc1, self.bn1, self.fc2),
            _group("fc2", self.fc2, self.bn2, self.fc3),
        ]


@register_model("pointnet", kind="points")
def pointnet(*, num_classes: int = 40, widths: Mapping[str, int] | None = None, dropout: float = 0.3) -> PointNet:
    """PointNet with both transforms, or with other `widths` (group name -> number of neurons).

    Raises ZooError for an unknown group and for a width below 1.
    """
    return PointNet(all_widths(WIDTHS, widths), num_classes=num_classes, dropout=dropout)
