"""DGCNN for point-cloud classification (Wang et al. 2019, Dynamic Graph CNN for Learning on Point Clouds, figure 3).

This is the classifier of the authors' PyTorch code: four EdgeConv layers of 64, 64, 128 and 256 channels, a 1 x 1
convolution of their concatenation to 1024 channels, [max, mean] over the points, and two hidden linear layers of 512
and 256. It has 1.81 M parameters for 40 classes. Weights of the authors' code load through `from_authors`.

What differs from the authors' code: EdgeConv is computed once per point (`zoo.models.edgeconv`), the names of the
layers say what they are, and the width of every hidden layer is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.models.edgeconv import EdgeConv
from zoo.models.groups import NeuronGroup, Reader, Stage, all_widths, widths_of
from zoo.models.point_ops import use_blocks
from zoo.models.registry import register_model

WIDTHS = {"edge1": 64, "edge2": 64, "edge3": 128, "edge4": 256, "conv5": 1024, "linear1": 512, "linear2": 256}
EDGES = ("edge1", "edge2", "edge3", "edge4")


class PointConv(nn.Conv1d):
    """A convolution with kernel size 1: x (B, C, N) -> (B, O, N).

    It is computed as a linear layer on points, which copies nothing if x is a transposed contiguous (B, N, C) tensor.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.transpose(1, 2), self.weight.squeeze(2), self.bias).transpose(1, 2)


class PointNorm(nn.BatchNorm1d):
    """Batch norm of x (P, C), in place where `is_pointwise` holds."""

    @property
    def is_pointwise(self) -> bool:
        """Whether each row is normalised by itself, with the running statistics, and autograd records nothing."""
        return not (self.training or torch.is_grad_enabled() or self.running_mean is None)

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_pointwise:
            return super().forward(x)
        assert self.running_mean is not None  # the asserts are for the type checker
        assert self.running_var is not None
        gain = self.weight * torch.rsqrt(self.running_var + self.eps)
        return x.mul_(gain).add_(self.bias - gain * self.running_mean)


class DGCNN(nn.Module):
    """Point clouds x (B, 3, N), N >= k -> logits (B, num_classes).

    widths   group name (a key of WIDTHS) -> number of neurons
    k        number of neighbours in each EdgeConv layer, the point itself included
    dropout  after both hidden linear layers
    slope    negative slope of the leaky ReLUs

    Raises ZooError if x is not of that shape or a cloud has fewer than k points.
    """

    def __init__(self, widths: Mapping[str, int], *, num_classes: int, k: int, dropout: float, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.num_classes = num_classes
        in_channels = 3
        for name in EDGES:
            self.add_module(name, EdgeConv(in_channels, widths[name], k=k, slope=slope))
            in_channels = widths[name]
        self.conv5 = PointConv(sum(widths[name] for name in EDGES), widths["conv5"], 1, bias=False)
        self.bn5 = PointNorm(widths["conv5"])
        self.linear1 = nn.Linear(2 * widths["conv5"], widths["linear1"], bias=False)
        self.bn6 = nn.BatchNorm1d(widths["linear1"])
        self.linear2 = nn.Linear(widths["linear1"], widths["linear2"])
        self.bn7 = nn.BatchNorm1d(widths["linear2"])
        self.linear3 = nn.Linear(widths["linear2"], num_classes)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 3 or x.shape[1] != 3:
            raise ZooError(f"DGCNN takes clouds as (B, 3, N); got {tuple(x.shape)}.")
        features: tuple[Tensor, ...] = ()
        for edge in self._edges():
            x = edge(x)
            features += (x,)
        hooked = any(layer._forward_hooks or layer._forward_pre_hooks for layer in (self.conv5, self.bn5))
        if hooked or not (self.bn5.is_pointwise and use_blocks(x)):  # a hook is called once, with the whole batch
            return self._linear2_linear3(self._pool_linear1(self._embed(features)))
        # The output of conv5 is the largest tensor of the network; that of one cloud stays in a CPU's caches.
        clouds = zip(*(torch.split(feature, 1) for feature in features), strict=True)
        return self._linear2_linear3(self._linear1(torch.cat([self._pool(self._embed(cloud)) for cloud in clouds])))

    def _edges(self) -> list[EdgeConv]:
        return [self.get_submodule(name) for name in EDGES]  # type: ignore[misc]

    def _embed(self, features: tuple[Tensor, ...]) -> Tensor:
        B, _, N = features[0].shape
        points = torch.cat([x.transpose(1, 2) for x in features], 2)  # B N C, as the layers hold it in memory
        y = self.conv5(points.transpose(1, 2)).transpose(1, 2).flatten(0, 1)
        return F.leaky_relu(self.bn5(y), self.slope, inplace=True).view(B, N, y.shape[1]).transpose(1, 2)  # B E N

    def _pool_linear1(self, x: Tensor) -> Tensor:
        return self._linear1(self._pool(x))

    def _pool(self, x: Tensor) -> Tensor:
        # amax is faster without a gradient, max with one.
        maxima = x.max(2).values if torch.is_grad_enabled() and x.requires_grad else x.amax(2)
        return torch.cat([maxima, x.mean(2)], 1)  # B 2E

    def _linear1(self, x: Tensor) -> Tensor:
        return self.drop(F.leaky_relu(self.bn6(self.linear1(x)), self.slope))  # type: ignore[no-any-return]

    def _linear2_linear3(self, x: Tensor) -> Tensor:
        x = self.drop(F.leaky_relu(self.bn7(self.linear2(x)), self.slope))
        return self.linear3(x)  # type: ignore[no-any-return]

    widths = property(widths_of)

    def stages(self) -> list[Stage]:
        """The network as a chain; between the EdgeConv layers the state is the tuple of their outputs so far."""

        def append(edge: EdgeConv, first: bool) -> Any:
            return lambda state: (edge(state),) if first else (*state, edge(state[-1]))

        edges = self._edges()
        return [
            *(Stage(name, append(edge, edge is edges[0]), (edge,)) for name, edge in zip(EDGES, edges, strict=True)),
            Stage("conv5", self._embed, (self.conv5, self.bn5)),
            Stage("linear1", self._pool_linear1, (self.linear1, self.bn6, self.drop)),
            Stage("linear2", lambda x: self.drop(F.leaky_relu(self.bn7(self.linear2(x)), self.slope)),
                  (self.linear2, self.bn7, self.drop)),
            Stage("linear3", self.linear3, (self.linear3,)),
        ]

    def neuron_groups(self) -> list[NeuronGroup]:
        """The EdgeConv layers (each read by the next and by conv5), conv5, linear1, linear2."""
        groups, edges, offset = [], self._edges(), 0
        for name, edge, after in zip(EDGES, edges, [*edges[1:], None], strict=True):
            size = edge.conv.out_channels
            readers = [Reader.of(after, size, norm=after.bn)] if after is not None else []
            readers.append(Reader.of(self.conv5, size, offset=offset, norm=self.bn5))
            groups.append(NeuronGroup(name, (edge.conv, edge.bn), tuple(readers), scale_on_writer=True))
            offset += size
        E = self.conv5.out_channels
        # linear1 reads E maxima, then E means.
        pooled = Reader(self.linear1, torch.arange(2 * E, device="cpu").view(2, E).t(), self.bn6)
        groups.append(NeuronGroup("conv5", (self.conv5, self.bn5), (pooled,)))
        for name, layer, bn, reader in (
            ("linear1", self.linear1, self.bn6, self.linear2),
            ("linear2", self.linear2, self.bn7, self.linear3),
        ):  # no norm: both readers have a bias
            groups.append(NeuronGroup(name, (layer, bn), (Reader.of(reader, layer.out_features),)))
        return groups


def edgeconv_scaled(w: float) -> dict[str, int]:
    """The widths for width multiplier w, which scales the EdgeConv layers only (Ye, Wu, Liu 2020, table 3)."""
    return {name: max(1, round(w * WIDTHS[name])) if name in EDGES else n for name, n in WIDTHS.items()}


@register_model("dgcnn", widths_for_multiplier=edgeconv_scaled, kind="points")
def dgcnn(
    *, num_classes: int = 40, widths: Mapping[str, int] | None = None, k: int = 20, dropout: float = 0.5
) -> DGCNN:
    """DGCNN as in the authors' code, or with other `widths` (group name -> number of neurons).

    Raises ZooError for an unknown group and for a width below 1.
    """
    return DGCNN(all_widths(WIDTHS, widths), num_classes=num_classes, k=k, dropout=dropout, slope=0.2)


def from_authors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state_dict of the authors' PyTorch code with the names of `dgcnn`, for its load_state_dict.

    The authors' keys are conv1.0.weight ... conv5.0.weight, bn1.* ... bn7.*, linear1.weight, linear2.* and linear3.*,
    possibly with the prefix ``module.`` of DataParallel. Their batch norms are also part of an nn.Sequential
    (conv1.1.*), with the same tensors.

    Raises ZooError if a key is not one of these.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        name = key.removeprefix("module.")
        head, _, rest = name.partition(".")
        kind, layer = head[:-1], head[-1:]
        if kind == "conv" and layer in "12345" and rest.startswith(("0.", "1.")):
            part, _, leaf = rest.partition(".")
            conv = "conv" if part == "0" else "bn"
            renamed[f"edge{layer}.{conv}.{leaf}" if layer < "5" else f"{conv}5.{leaf}"] = value
        elif kind == "bn" and layer in "1234567":
            renamed[f"edge{layer}.bn.{rest}" if layer < "5" else f"bn{layer}.{rest}"] = value
        elif kind == "linear" and layer in "123" and rest in ("weight", "bias"):
            renamed[name] = value
        else:
            raise ZooError(
                f"'{key}' is no tensor of the DGCNN authors' classifier: expected keys such as conv1.0.weight, "
                f"bn1.weight, linear1.weight (possibly under module.)."
            )
    return renamed
