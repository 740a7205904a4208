"""The input of a reader as a matrix Phi, so that its output is Phi W^T row by row (Ye et al. 2020, appendix 5.1)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.models import CustomReader, Reader

# Rows are made in pieces of at most this many numbers (128 MiB in float32).
CHUNK_ELEMENTS = 32 * 1024 * 1024


def input_matrix(reader: Reader, x: Tensor) -> Tensor:
    """Phi (P, K) for one input of the reader: one row a position, unfolded patch, edge or sample.

    The order of the K columns is that of the reader's flattened weight (O, K).
    """
    module = reader.module
    if isinstance(module, CustomReader):
        return module.input_matrix(x)
    if isinstance(module, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    if isinstance(module, nn.Conv1d):
        return unfold_rows(_as_conv2d(module), x.unsqueeze(2))
    if isinstance(module, nn.Conv2d):
        return unfold_rows(_Geometry.of(module), x)
    raise ZooError(f"Cannot write the input of {type(module).__name__} as a matrix.")


def iter_rows(reader: Reader, x: Tensor) -> Iterator[Tensor]:
    """The same rows, a few samples at a time, so that patches or edges are never all in memory."""
    columns = reader.weight.shape[1]
    # Never more than one row for each input position and neighbour; EdgeConv has k rows a point.
    positions = x[0, 0].numel() if x.dim() > 2 else max(1, x[0].numel() // x.shape[-1])
    per_sample = columns * positions * int(getattr(reader.module, "k", 1))
    step = max(1, CHUNK_ELEMENTS // per_sample)
    for i in range(0, len(x), step):
        yield input_matrix(reader, x[i : i + step])


def iter_sampled_rows(
    reader: Reader, x: Tensor, part: float, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]] | None:
    """Two independent halves (P, K) of the rows at random output positions of a k x k convolution, a few samples at a
    time: `part` of all positions (two at least). None for a reader that has a single column a channel, and where that
    part is all."""
    module = reader.module
    if not isinstance(module, nn.Conv2d) or module.kernel_size == (1, 1):
        return None
    positions = math.prod(_Geometry.of(module).output(x))
    if 2 * max(1, round(part * positions / 2)) >= positions:
        return None
    return _halves(_Geometry.of(module), x, part, generator)


def _halves(shape: _Geometry, x: Tensor, part: float, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    B, C = x.shape[:2]
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = shape.kernel, shape.stride, shape.padding, shape.dilation
    height, width = shape.output(x)
    half = max(1, round(part * height * width / 2))
    step = max(1, CHUNK_ELEMENTS // (C * kh * kw * 2 * half))
    for i in range(0, B, step):
        padded = F.pad(x[i : i + step], (pw, pw, ph, ph))
        drawn = torch.randperm(height * width, generator=generator)[: 2 * half].to(x.device)
        top, left = drawn // width * sh, drawn % width * sw
        taps = [padded[:, :, top + dh * a, left + dw * b] for a in range(kh) for b in range(kw)]
        patches = torch.stack(taps, 2).permute(0, 3, 1, 2)  # B positions C kh*kw
        yield patches[:, :half].flatten(0, 1).flatten(1), patches[:, half:].flatten(0, 1).flatten(1)


class _Geometry:
    """Kernel, stride, padding and dilation of a convolution, as unfold wants them."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int],
                 dilation: tuple[int, int]) -> None:
        self.kernel, self.stride, self.padding, self.dilation = kernel, stride, padding, dilation

    def output(self, x: Tensor) -> tuple[int, int]:
        """Height and width of the output for an input (B, C, H, W)."""
        height, width = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in zip(
                x.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return height, width

    @classmethod
    def of(cls, conv: nn.Conv2d) -> _Geometry:
        if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
            raise ZooError("A reader convolution needs zero padding given in numbers.")
        return cls(conv.kernel_size, conv.stride, conv.padding, conv.dilation)  # type: ignore[arg-type]


def _as_conv2d(conv: nn.Conv1d) -> _Geometry:
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        raise ZooError("A reader convolution needs zero padding given in numbers.")
    return _Geometry((1, conv.kernel_size[0]), (1, conv.stride[0]), (0, conv.padding[0]), (1, conv.dilation[0]))


def unfold_rows(shape: _Geometry, x: Tensor) -> Tensor:
    """x (B, C, H, W) -> (B L, C kh kw), one row an output position."""
    if shape.kernel == (1, 1) and shape.padding == (0, 0):
        x = x[:, :, :: shape.stride[0], :: shape.stride[1]]
        return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    patches = F.unfold(x, shape.kernel, dilation=shape.dilation, padding=shape.padding, stride=shape.stride)
    return patches.transpose(1, 2).flatten(0, 1)
