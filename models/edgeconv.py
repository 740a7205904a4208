"""EdgeConv (Wang et al. 2019, Dynamic Graph CNN, section 3.1), computed once per point instead of once per edge.

    y_i = max over j in knn(i) of act(bn(W [x_j - x_i, x_i]))

The linear map splits, W [x_j - x_i, x_i] = W1 x_j + (W2 - W1) x_i, so it runs on points; batch norm is affine per
channel and the activation increases, so the maximum over neighbours acts on the rows W1 x_j alone (on their negative
where the batch-norm gain is negative). In training, the mean and variance over all edges follow from the sums over
each point's neighbours. Parameters and their meaning are those of the written-out layer, `edge_conv_written_out`,
against which this is tested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import distributed
from zoo.models import autotune
from zoo.models.point_ops import gather, is_compiling, knn, use_blocks

# So many numbers of a running maximum stay in a CPU's caches for k rounds: 2 MiB in float32.
CACHED = 512 * 1024


class EdgeConv(nn.Module):
    """x (B, C, N) -> (B, O, N), neighbours searched in x itself.

    Raises ZooError if a cloud has fewer than k points.
    """

    def __init__(self, in_channels: int, out_channels: int, *, k: int, slope: float = 0.2) -> None:
        super().__init__()
        self.k = k
        self.slope = slope
        self.conv = nn.Conv2d(2 * in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        B, C, N = x.shape
        index = knn(x.detach(), self.k)  # B N k
        rows = (index + N * torch.arange(B, device=x.device).view(B, 1, 1)).view(B * N, self.k)
        points = x.transpose(1, 2).reshape(B * N, C)
        # Where the batch-norm gain is negative the smallest edge wins: turn those channels' signs, then max is right.
        sign = torch.where(self.bn.weight.detach() < 0, -1.0, 1.0).to(x.dtype)
        W = self.conv.weight.flatten(1) * sign.unsqueeze(1)
        neighbour = points @ W[:, :C].t()  # BN O, W1 x_j
        centre = points @ (W[:, C:] - W[:, :C]).t()  # BN O, (W2 - W1) x_i
        mean, var = self._statistics(neighbour, centre, rows, sign)
        gain = self.bn.weight * sign * torch.rsqrt(var + self.bn.eps)
        shift = self.bn.bias - gain * mean
        return edge_max(neighbour, centre, rows, gain, shift, self.slope).view(B, N, -1).transpose(1, 2)

    def _statistics(self, neighbour: Tensor, centre: Tensor, rows: Tensor, sign: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (O,) of the signed edges; in training over all edges of the batch (of all processes that
        share it), and the running ones move."""
        bn = self.bn
        assert bn.running_mean is not None  # the asserts are for the type checker
        assert bn.running_var is not None
        if not bn.training:
            return bn.running_mean * sign, bn.running_var
        # In float32 whatever autocast says: a sum of squares over all edges is beyond float16, and rounds in bfloat16.
        with torch.autocast(neighbour.device.type, enabled=False):
            exact = torch.promote_types(neighbour.dtype, torch.float32)
            return self._of_the_batch(bn, neighbour.to(exact), centre.to(exact), rows, sign)

    def _of_the_batch(
        self, bn: nn.BatchNorm2d, neighbour: Tensor, centre: Tensor, rows: Tensor, sign: Tensor
    ) -> tuple[Tensor, Tensor]:
        assert bn.running_mean is not None
        assert bn.running_var is not None
        assert bn.num_batches_tracked is not None
        edges = rows.numel()
        # The edge from i to j is n_j + c_i; each part is taken about its own mean, a constant, so that the variance is
        # not a difference of two large numbers. With s_i the sum of n_j over i's neighbours, sums over edges follow.
        with torch.no_grad():
            # Not bincount, whose size depends on its values, so that a GPU would be waited for.
            ones = neighbour.new_ones(edges)
            degree = neighbour.new_zeros(len(neighbour)).scatter_add_(0, rows.flatten(), ones)
            shift_n, shift_c = distributed.all_reduce_mean(degree @ neighbour / edges, centre.mean(0))
        n, c = neighbour - shift_n, centre - shift_c
        s = F.embedding_bag(rows, n, mode="sum")
        first = (degree @ n + self.k * c.sum(0)) / edges
        second = (degree @ n.square() + (c * torch.add(self.k * c, s, alpha=2)).sum(0)) / edges
        first, second = distributed.all_reduce_mean(first, second)
        mean, var = first + (shift_n + shift_c), (second - first.square()).clamp_min(0)
        with torch.no_grad():
            edges = distributed.global_count(edges)
            bn.num_batches_tracked.add_(1)
            # Without a momentum the running statistics are plain averages, as in nn.BatchNorm2d.
            momentum = 1 / int(bn.num_batches_tracked) if bn.momentum is None else bn.momentum
            bn.running_mean.lerp_((mean * sign).to(bn.running_mean.dtype), momentum)
            bn.running_var.lerp_((var * (edges / max(edges - 1, 1))).to(bn.running_var.dtype), momentum)
        return mean, var

    def edges(self, x: Tensor) -> Tensor:
        """The written-out input of the linear map, [x_j - x_i, x_i]: x (B, C, N) -> (B, 2C, N, k)."""
        neighbours = gather(x, knn(x.detach(), self.k))
        centre = x.unsqueeze(3).expand_as(neighbours)
        return torch.cat([neighbours - centre, centre], 1)

    # A reader of neuron groups (zoo.models.groups.CustomReader): one row an edge, columns i and C + i.

    @property
    def weight_layer(self) -> nn.Module:
        return self.conv

    def input_matrix(self, x: Tensor) -> Tensor:
        return self.edges(x).permute(0, 2, 3, 1).flatten(0, 2)

    def column_index(self, channels: Tensor) -> Tensor:
        return torch.cat([channels, self.conv.in_channels // 2 + channels], 1)

    def count_macs(self, x: Tensor) -> tuple[int, int]:
        """(MACs, batch-norm elements) of the written-out layer, one 1 x 1 convolution over every edge.

        That is how DGCNN's cost is counted in the literature; the split form executes 2/k of these MACs.
        """
        B, _, N = x.shape
        return B * N * self.k * self.conv.weight.numel(), B * N * self.k * self.conv.out_channels


def edge_conv_written_out(layer: EdgeConv, x: Tensor) -> Tensor:
    """The same layer as its formula says, on every edge: slow, large, and the truth for tests and benchmarks."""
    return F.leaky_relu(layer.bn(layer.conv(layer.edges(x))), layer.slope).amax(3)


def edge_max(neighbour: Tensor, centre: Tensor, rows: Tensor, gain: Tensor, shift: Tensor, slope: float) -> Tensor:
    """leaky_relu(gain (max over j of neighbour[rows[:, j]] + centre) + shift).

    neighbour, centre (P, O), rows (P, k) indices into P, gain, shift (O,) -> (P, O).
    """
    grad = torch.is_grad_enabled() and any(each.requires_grad for each in (neighbour, centre, gain, shift))
    if neighbour.device.type != "cuda" or grad or neighbour.dtype == torch.float64 or is_compiling():
        return _edge_max(neighbour, centre, rows, gain, shift, slope)
    implementations = edge_max_implementations(neighbour, centre, rows, gain, shift, slope)
    key = ("edge_max", *neighbour.shape, rows.shape[1], neighbour.dtype, shift.dtype, neighbour.device)
    return autotune.autotune(key, implementations, neighbour.device)


def edge_max_implementations(
    neighbour: Tensor, centre: Tensor, rows: Tensor, gain: Tensor, shift: Tensor, slope: float
) -> dict[str, Callable[[], Tensor]]:
    """The implementations of `edge_max` by name, plain torch first."""
    operands = (neighbour, centre, rows, gain, shift, slope)
    implementations = {"torch": lambda: _edge_max(*operands)}
    if (kernels := autotune.kernels()) is not None:
        implementations["triton"] = lambda: kernels.edge_max(*operands)
    return implementations


def _edge_max(neighbour: Tensor, centre: Tensor, rows: Tensor, gain: Tensor, shift: Tensor, slope: float) -> Tensor:
    y = torch.addcmul(shift, gain, neighbour_max(neighbour, rows) + centre)
    return F.leaky_relu(y, slope, inplace=True)


def neighbour_max(x: Tensor, rows: Tensor) -> Tensor:
    """Maximum over neighbours: x (P, O), rows (P, k) indices into P -> (P, O). No (P, k, O) tensor is made."""
    turns = rows.t().contiguous()
    if torch.is_grad_enabled() and x.requires_grad:
        result: Tensor = _NeighbourMax.apply(x, turns)
        return result
    best = x.new_empty(turns.shape[1], x.shape[1])
    for part, of_part in _parts(best, turns):
        torch.index_select(x, 0, of_part[0], out=part)
        value = torch.empty_like(part)
        for turn in of_part[1:]:
            torch.index_select(x, 0, turn, out=value)
            torch.maximum(part, value, out=part)
    return best


def _parts(best: Tensor, turns: Tensor) -> list[tuple[Tensor, Tensor]]:
    """best (P, O) and turns (k, P) in parts of consecutive points."""
    if not use_blocks(best):
        return [(best, turns)]
    step = max(1, CACHED // best.shape[1])
    return list(zip(torch.split(best, step), torch.split(turns, step, 1), strict=True))


class _NeighbourMax(torch.autograd.Function):
    """The gradient goes to the (first) neighbour that is the maximum; its place is kept in one byte up to k = 256."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, turns: Tensor) -> Tensor:
        bytes_ = len(turns) <= 256
        best = x.new_empty(turns.shape[1], x.shape[1])
        slot = torch.zeros_like(best, dtype=torch.uint8 if bytes_ else torch.int32)
        for (part, of_part), (slot_, _) in zip(_parts(best, turns), _parts(slot, turns), strict=True):
            torch.index_select(x, 0, of_part[0], out=part)
            value, place = torch.empty_like(part), torch.empty_like(slot_)
            larger = torch.empty_like(part, dtype=torch.bool)
            for j, turn in enumerate(of_part[1:], 1):
                torch.index_select(x, 0, turn, out=value)
                torch.gt(value, part, out=larger)
                # j only grows, so the last turn that was larger is the largest number: in bytes, cheaper than a mask.
                torch.mul(larger.view(torch.uint8) if bytes_ else larger.int(), j, out=place)
                torch.maximum(slot_, place, out=slot_)
                torch.maximum(part, value, out=part)
        ctx.save_for_backward(turns, slot)
        ctx.points = len(x)
        return best

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        turns, slot = ctx.saved_tensors
        winner = turns.t().gather(1, slot.long())
        return grad.new_zeros(ctx.points, grad.shape[1]).scatter_add_(0, winner, grad), None
