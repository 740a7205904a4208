"""EdgeConv (Wang et al. 2019, Dynamic Graph CNN for Learning on Point Clouds, section 3.1), computed once per point.

    y_i = max over j in knn(i) of act(bn(W [x_j - x_i, x_i]))

The authors' code applies W to every edge. Here W = [W1, W2] is split, W [x_j - x_i, x_i] = W1 x_j + (W2 - W1) x_i, so
that it is applied to every point, k times less often. Batch norm is affine in each channel and the activation
increases, so the maximum over the neighbours j can be taken of W1 x_j alone (of its negative where the gain of the
batch norm is negative). In training, the mean and variance over all edges follow from sums over each point's
neighbours. The parameters are those of the per-edge formulation, `edge_conv_on_edges`, with which the tests compare.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo import distributed
from zoo.models import kernels
from zoo.models.point_ops import gather, is_compiling, is_compiling_for_any_size, knn, use_blocks

# A running maximum of this many numbers (2 MiB in float32) stays in a CPU's caches while k neighbours are compared.
BLOCK = 512 * 1024


class EdgeConv(nn.Module):
    """EdgeConv of a k-nearest-neighbour graph that is computed from the input: x (B, C, N) -> (B, O, N).

    in_channels   C
    out_channels  O
    k             number of neighbours, the point itself included
    slope         negative slope of the leaky ReLU

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
        # Where the gain of the batch norm is negative, the minimum over the edges is the one to take: negating those
        # channels makes it a maximum.
        sign = torch.where(self.bn.weight.detach() < 0, -1.0, 1.0).to(x.dtype)
        W = self.conv.weight.flatten(1) * sign.unsqueeze(1)
        neighbour = points @ W[:, :C].t()  # BN O, W1 x_j
        centre = points @ (W[:, C:] - W[:, :C]).t()  # BN O, (W2 - W1) x_i
        mean, var = self._statistics(neighbour, centre, rows, sign)
        gain = self.bn.weight * sign * torch.rsqrt(var + self.bn.eps)
        shift = self.bn.bias - gain * mean
        return edge_max(neighbour, centre, rows, gain, shift, self.slope).view(B, N, W.shape[0]).transpose(1, 2)

    def _statistics(self, neighbour: Tensor, centre: Tensor, rows: Tensor, sign: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (O,) that the batch norm applies to the edges, of which channels with sign -1 are negated.

        In training they are those of all edges of the batch, of all processes, and the running statistics are updated.
        """
        bn = self.bn
        assert bn.running_mean is not None  # the asserts are for the type checker
        assert bn.running_var is not None
        if not bn.training:
            return bn.running_mean * sign, bn.running_var
        if rows.shape[0] == 0 and not distributed.is_distributed():  # no edge has no mean, and moves no statistics
            return bn.running_mean * sign, bn.running_var
        # Not under autocast: a sum of squares over all edges overflows float16 and loses its digits in bfloat16.
        with torch.autocast(neighbour.device.type, enabled=False):
            accum_dtype = torch.promote_types(neighbour.dtype, torch.float32)
            return self._batch_statistics(bn, neighbour.to(accum_dtype), centre.to(accum_dtype), rows, sign)

    def _batch_statistics(
        self, bn: nn.BatchNorm2d, neighbour: Tensor, centre: Tensor, rows: Tensor, sign: Tensor
    ) -> tuple[Tensor, Tensor]:
        assert bn.running_mean is not None
        assert bn.running_var is not None
        assert bn.num_batches_tracked is not None
        edges = rows.numel()
        # Edge (i, j) has the value n_j + c_i. With s_i the sum of n_j over the neighbours j of i, and d_j the number of
        # points that j is a neighbour of:
        #     sum over edges of (n_j + c_i)   = sum over j of d_j n_j + k sum over i of c_i
        #     sum over edges of (n_j + c_i)^2 = sum over j of d_j n_j^2 + sum over i of c_i (k c_i + 2 s_i)
        # n and c are first centred at constants near their means, or the variance would be a difference of two large
        # numbers.
        with torch.no_grad():
            # Not bincount: the size of its result depends on the values, so that the CPU would wait for the GPU.
            ones = neighbour.new_ones(edges)
            degree = neighbour.new_zeros(len(neighbour)).scatter_add_(0, rows.flatten(), ones)
            shift_n, shift_c = distributed.all_reduce_mean(degree @ neighbour / edges, centre.mean(0))
        n, c = neighbour - shift_n, centre - shift_c
        s = F.embedding_bag(rows, n, mode="sum")
        centred_mean = (degree @ n + self.k * c.sum(0)) / edges
        mean_square = (degree @ n.square() + (c * torch.add(self.k * c, s, alpha=2)).sum(0)) / edges
        centred_mean, mean_square = distributed.all_reduce_mean(centred_mean, mean_square)
        mean = centred_mean + (shift_n + shift_c)
        var = (mean_square - centred_mean.square()).clamp_min(0)
        with torch.no_grad():
            edges = distributed.global_count(edges)
            bn.num_batches_tracked.add_(1)
            # momentum=None means a cumulative average, as in nn.BatchNorm2d.
            momentum = 1 / int(bn.num_batches_tracked) if bn.momentum is None else bn.momentum
            bn.running_mean.lerp_((mean * sign).to(bn.running_mean.dtype), momentum)
            bn.running_var.lerp_((var * (edges / max(edges - 1, 1))).to(bn.running_var.dtype), momentum)
        return mean, var

    def edges(self, x: Tensor) -> Tensor:
        """The input of the linear map on every edge, [x_j - x_i, x_i]: x (B, C, N) -> (B, 2C, N, k)."""
        neighbours = gather(x, knn(x.detach(), self.k))
        centre = x.unsqueeze(3).expand_as(neighbours)
        return torch.cat([neighbours - centre, centre], 1)

    # The members of zoo.models.CustomReader: the matrix has one row per edge, and channel i has columns i and C + i.

    @property
    def weight_layer(self) -> nn.Module:
        return self.conv

    def input_matrix(self, x: Tensor) -> Tensor:
        return self.edges(x).permute(0, 2, 3, 1).flatten(0, 2)

    def column_index(self, channels: Tensor) -> Tensor:
        return torch.cat([channels, self.conv.in_channels // 2 + channels], 1)

    def second_moments(self, x: Tensor, centre: Tensor) -> Tensor:
        """[E 1]' [E 1] (2C + 1, 2C + 1), float64, of the edges E = input_matrix(x) - centre (2C,), from sums over
        points: k times fewer products than over the edges.

        With y = x - centre[C:], edge (i, j) has the row [y_j - y_i - centre[:C], y_i, 1] = T [y_j, y_i, 1], and the
        moments of [y_j, y_i, 1] follow from y, the degrees d_j and the sums s_i of y_j over the neighbours j of i.
        """
        B, C, N = x.shape
        index = knn(x.detach(), self.k) + N * torch.arange(B, device=x.device).view(B, 1, 1)
        rows = index.view(B * N, self.k)
        first, second = centre[:C].double(), centre[C:].double()
        y = x.transpose(1, 2).reshape(B * N, C).double() - second
        degree = y.new_zeros(B * N).scatter_add_(0, rows.flatten(), y.new_ones(rows.numel()))
        s = F.embedding_bag(rows, y.to(torch.promote_types(x.dtype, torch.float32)), mode="sum").double()
        cross, total, sums = s.t() @ y, y.sum(0), degree @ y
        moments = y.new_empty(2 * C + 1, 2 * C + 1)
        moments[:C, :C], moments[C:-1, C:-1] = (y * degree.unsqueeze(1)).t() @ y, self.k * (y.t() @ y)
        moments[:C, C:-1], moments[C:-1, :C] = cross, cross.t()
        moments[-1, :C] = moments[:C, -1] = sums
        moments[-1, C:-1] = moments[C:-1, -1] = self.k * total
        moments[-1, -1] = rows.numel()
        T = torch.eye(2 * C + 1, dtype=torch.float64, device=x.device)
        T[:C, C:-1].diagonal().fill_(-1)
        T[:C, -1] = -first
        product: Tensor = T @ moments @ T.t()
        return product

    def count_macs(self, x: Tensor) -> tuple[int, int]:
        """(MACs, batch-norm elements) of the per-edge formulation, a 1 x 1 convolution of every edge.

        The literature counts the cost of DGCNN in this way; what is executed here are 2/k of these MACs.
        """
        B, _, N = x.shape
        return B * N * self.k * self.conv.weight.numel(), B * N * self.k * self.conv.out_channels


def edge_conv_on_edges(layer: EdgeConv, x: Tensor) -> Tensor:
    """The layer computed on every edge, as in the paper: slow, and the reference of tests and benchmarks."""
    return F.leaky_relu(layer.bn(layer.conv(layer.edges(x))), layer.slope).amax(3)


def edge_max(neighbour: Tensor, centre: Tensor, rows: Tensor, gain: Tensor, shift: Tensor, slope: float) -> Tensor:
    """leaky_relu(gain (max over j of neighbour[rows[:, j]] + centre) + shift) -> (P, O).

    neighbour, centre (P, O); rows (P, k), indices of points from 0 to P - 1; gain, shift (O,); slope of the leaky ReLU.
    """
    grad = torch.is_grad_enabled() and any(x.requires_grad for x in (neighbour, centre, gain, shift))
    empty = rows.shape[0] == 0
    if neighbour.device.type != "cuda" or empty or grad or neighbour.dtype == torch.float64 or is_compiling():
        return _edge_max(neighbour, centre, rows, gain, shift, slope)
    implementations = edge_max_implementations(neighbour, centre, rows, gain, shift, slope)
    key = ("edge_max", *neighbour.shape, rows.shape[1], neighbour.dtype, shift.dtype, neighbour.device)
    return kernels.run_fastest(key, implementations, neighbour.device)


def edge_max_implementations(
    neighbour: Tensor, centre: Tensor, rows: Tensor, gain: Tensor, shift: Tensor, slope: float
) -> dict[str, Callable[[], Tensor]]:
    """The implementations of `edge_max` by name, plain torch first."""
    operands = (neighbour, centre, rows, gain, shift, slope)
    implementations = {"torch": lambda: _edge_max(*operands)}
    if (triton := kernels.load_triton()) is not None:
        implementations["triton"] = lambda: triton.edge_max(*operands)
    return implementations


def _edge_max(neighbour: Tensor, centre: Tensor, rows: Tensor, gain: Tensor, shift: Tensor, slope: float) -> Tensor:
    y = torch.addcmul(shift, gain, neighbour_max(neighbour, rows) + centre)
    return F.leaky_relu(y, slope, inplace=True)


def neighbour_max(x: Tensor, rows: Tensor) -> Tensor:
    """Maximum over neighbours: x (P, O), rows (P, k) indices of points -> (P, O), without a (P, k, O) tensor."""
    neighbours = rows.t().contiguous()  # k P
    if torch.is_grad_enabled() and x.requires_grad:
        result: Tensor = _NeighbourMax.apply(x, neighbours)
        return result
    if is_compiling_for_any_size(x):
        return x[neighbours].amax(0)  # one operation, which a compiler fuses, instead of 2 k
    maximum = x.new_empty(neighbours.shape[1], x.shape[1])
    for block, indices in _blocks(maximum, neighbours):
        torch.index_select(x, 0, indices[0], out=block)
        value = torch.empty_like(block)
        for index in indices[1:]:
            torch.index_select(x, 0, index, out=value)
            torch.maximum(block, value, out=block)
    return maximum


def _blocks(output: Tensor, neighbours: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Views of output (P, O) and neighbours (k, P) in blocks of consecutive points."""
    if not use_blocks(output):
        return [(output, neighbours)]
    step = max(1, BLOCK // output.shape[1])
    return list(zip(torch.split(output, step), torch.split(neighbours, step, 1), strict=True))


class _NeighbourMax(torch.autograd.Function):
    """`neighbour_max` with a gradient, which goes to the first neighbour that has the maximum.

    The position of that neighbour, from 0 to k - 1, is saved for the backward pass: in one byte if k <= 256.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, neighbours: Tensor) -> Tensor:
        bytes_ = len(neighbours) <= 256
        maximum = x.new_empty(neighbours.shape[1], x.shape[1])
        argmax = torch.zeros_like(maximum, dtype=torch.uint8 if bytes_ else torch.int32)
        blocks = zip(_blocks(maximum, neighbours), _blocks(argmax, neighbours), strict=True)
        for (block, indices), (position, _) in blocks:
            torch.index_select(x, 0, indices[0], out=block)
            value, candidate = torch.empty_like(block), torch.empty_like(position)
            larger = torch.empty_like(block, dtype=torch.bool)
            for j, index in enumerate(indices[1:], 1):
                torch.index_select(x, 0, index, out=value)
                torch.gt(value, block, out=larger)
                # Since j increases, the last j with a larger value is the maximum of all such j: in bytes, this is
                # cheaper than a masked assignment.
                torch.mul(larger.view(torch.uint8) if bytes_ else larger.int(), j, out=candidate)
                torch.maximum(position, candidate, out=position)
                torch.maximum(block, value, out=block)
        ctx.save_for_backward(neighbours, argmax)
        ctx.num_points = len(x)
        return maximum

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        neighbours, argmax = ctx.saved_tensors
        winner = neighbours.t().gather(1, argmax.long())
        return grad.new_zeros(ctx.num_points, grad.shape[1]).scatter_add_(0, winner, grad), None
