"""Two Triton kernels for CUDA: k nearest neighbours, and EdgeConv's maximum over neighbours, each in one pass.

Only `zoo.models.kernels.autotune` imports this file, and only where Triton is installed. With the environment variable
TRITON_INTERPRET=1, set before the first import, the kernels run on a CPU, slowly.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# The nearest neighbours so far are merged by Triton's topk, whose sizes are powers of two.
MAX_NEIGHBOURS = 64


@triton.jit  # type: ignore[untyped-decorator]
def _nearest(  # type: ignore[no-untyped-def]
    points, half_norm, index, N, C, k, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, KEPT: tl.constexpr
):
    cloud = tl.program_id(1).to(tl.int64)
    points += cloud * N * C
    half_norm += cloud * N
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    last = tl.full((ROWS, KEPT), -(2**63), tl.int64)
    best = last
    for start in range(0, N, COLS):
        cols = start + tl.arange(0, COLS)
        inner = tl.zeros((ROWS, COLS), tl.float32)
        for c in range(0, C, DEPTH):
            depth = c + tl.arange(0, DEPTH)
            left = tl.load(points + rows[:, None] * C + depth[None, :],
                           mask=(rows[:, None] < N) & (depth[None, :] < C), other=0.0)  # fmt: skip
            right = tl.load(points + cols[None, :] * C + depth[:, None],
                            mask=(cols[None, :] < N) & (depth[:, None] < C), other=0.0)  # fmt: skip
            inner = tl.dot(left, right, inner, input_precision="ieee")
        nearness = inner - tl.load(half_norm + cols, mask=cols < N, other=0.0)[None, :]
        # One int64 key to sort by: in the high half the bits of the float as an integer in the same order, in the low
        # half the column.
        bits = nearness.to(tl.int32, bitcast=True)
        bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
        key = (bits.to(tl.int64) << 32) | cols[None, :].to(tl.int64)
        key = tl.where(cols[None, :] < N, key, -(2**63))
        tile = tl.topk(key, KEPT)
        both = tl.reshape(tl.join(best, tile), (ROWS, 2 * KEPT))
        best = tl.topk(both, KEPT)
    slot = tl.arange(0, KEPT)
    out = index + (cloud * N + rows[:, None]) * k + slot[None, :]
    tl.store(out, best & 0xFFFFFFFF, mask=(rows[:, None] < N) & (slot[None, :] < k))


def nearest(points: Tensor, k: int) -> Tensor:
    """Indices (B, N, k) int64 of the k nearest points of each point, nearest first: points (B, N, C) float32.

    k is at most MAX_NEIGHBOURS. Distances are computed in float32 without TF32, as in `zoo.models.point_ops.knn`; tiles
    of them exist in registers only.
    """
    B, N, C = points.shape
    points = points.contiguous()
    index = torch.empty(B, N, k, dtype=torch.int64, device=points.device)
    kept = max(16, triton.next_power_of_2(k))
    rows, cols = 16, max(64, kept)
    depth = min(64, max(16, triton.next_power_of_2(C)))
    half_norm = points.square().sum(2) * 0.5
    _nearest[(triton.cdiv(N, rows), B)](
        points, half_norm, index, N, C, k, ROWS=rows, COLS=cols, DEPTH=depth, KEPT=kept, num_warps=4,
        enable_fp_fusion=True,
    )  # fmt: skip
    return index


@triton.jit  # type: ignore[untyped-decorator]
def _edge_max(  # type: ignore[no-untyped-def]
    neighbour, centre, rows, gain, shift, out, P, width, k, slope, POINTS: tl.constexpr, CHANNELS: tl.constexpr
):
    p = (tl.program_id(0) * POINTS + tl.arange(0, POINTS)).to(tl.int64)
    o = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = (p[:, None] < P) & (o[None, :] < width)
    best = tl.full((POINTS, CHANNELS), float("-inf"), tl.float32)
    for j in range(k):
        row = tl.load(rows + p * k + j, mask=p < P, other=0)
        value = tl.load(neighbour + row[:, None] * width + o[None, :], mask=inside, other=0.0).to(tl.float32)
        best = tl.maximum(best, value, propagate_nan=tl.PropagateNan.ALL)
    y = best + tl.load(centre + p[:, None] * width + o[None, :], mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(gain + o, mask=o < width, other=0.0)
    offset = tl.load(shift + o, mask=o < width, other=0.0)
    y = y * scale[None, :] + offset[None, :]
    y = tl.where(y > 0, y, y * slope)
    tl.store(out + p[:, None] * width + o[None, :], y, mask=inside)


def edge_max(neighbour: Tensor, centre: Tensor, rows: Tensor, gain: Tensor, shift: Tensor, slope: float) -> Tensor:
    """leaky_relu(gain (max over j of neighbour[rows[:, j]] + centre) + shift) -> (P, O), computed in float32.

    neighbour, centre (P, O); rows (P, k), indices of points from 0 to P - 1; gain, shift (O,); slope of the leaky ReLU.
    """
    P, O = neighbour.shape  # noqa: E741  # channels out, as everywhere
    neighbour, centre, rows = neighbour.contiguous(), centre.contiguous(), rows.contiguous()
    # The dtype that plain torch returns: under autocast the neighbours are bfloat16 and the gains float32.
    out = torch.empty_like(neighbour, dtype=torch.promote_types(neighbour.dtype, shift.dtype))
    channels = min(128, triton.next_power_of_2(O))
    points = max(1, 1024 // channels)
    _edge_max[(triton.cdiv(P, points), triton.cdiv(O, channels))](
        neighbour, centre, rows, gain.float(), shift.float(), out, P, O, rows.shape[1], slope, POINTS=points,
        CHANNELS=channels, enable_fp_fusion=True,
    )  # fmt: skip
    return out
