"""The input of a reader as a matrix Phi (im2col): the reader's output is Phi W^T (Ye et al. 2020, appendix 5.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.models import CustomReader, NeuronGroup, Reader

CHUNK_ELEMENTS = 32 * 1024 * 1024  # the most elements of Phi in memory at a time: 128 MiB in float32


@contextmanager
def observe_inputs(group: NeuronGroup, observers: Sequence[Callable[[Tensor], None]]) -> Iterator[None]:
    """A context in which every input of the group's readers is given to an observer, one for each reader."""
    handles = [
        reader.module.register_forward_pre_hook(lambda module, inputs, observe=observe: observe(inputs[0].detach()))
        for reader, observe in zip(group.readers, observers, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def input_matrix(reader: Reader, x: Tensor) -> Tensor:
    """Phi (P, K) for one input of the reader's module, with a row per sample, position, unfolded patch or edge.

    The order of the K columns is that of the reader's flattened weight (O, K).
    """
    module = reader.module
    if isinstance(module, CustomReader):
        return module.input_matrix(x)
    if isinstance(module, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    if isinstance(module, nn.Conv1d):
        return _unfold_rows(_geometry(module), x.unsqueeze(2))
    if isinstance(module, nn.Conv2d):
        return _unfold_rows(_geometry(module), x)
    raise ZooError(f"Cannot write the input of {type(module).__name__} as a matrix.")


def iter_rows(reader: Reader, x: Tensor) -> Iterator[Tensor]:
    """The rows of `input_matrix`, a few samples at a time, so that never all patches or edges are in memory."""
    columns = reader.weight.shape[1]
    # At most one row per input position; EdgeConv has k rows per point.
    positions = x[0, 0].numel() if x.dim() > 2 else max(1, x[0].numel() // x.shape[-1])
    per_sample = columns * positions * int(getattr(reader.module, "k", 1))
    step = max(1, CHUNK_ELEMENTS // per_sample)
    for i in range(0, len(x), step):
        yield input_matrix(reader, x[i : i + step])


def iter_sampled_rows(
    reader: Reader, x: Tensor, fraction: float, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]] | None:
    """Rows of `input_matrix` at random output positions of a k x k convolution, a few samples at a time, as two
    independent halves (p, K): in all `fraction` of the positions, two at least.

    None for a reader that has no k x k kernel, and where that fraction is all positions.
    """
    module = reader.module
    if not isinstance(module, nn.Conv2d) or module.kernel_size == (1, 1):
        return None
    geometry = _geometry(module)
    positions = math.prod(geometry.output_size(x))
    half = max(1, round(fraction * positions / 2))
    return None if 2 * half >= positions else _iter_halves(geometry, x, half, generator)


def _iter_halves(
    geometry: _Geometry, x: Tensor, half: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    B, C = x.shape[:2]
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = geometry
    height, width = geometry.output_size(x)
    step = max(1, CHUNK_ELEMENTS // (C * kh * kw * 2 * half))
    for i in range(0, B, step):
        padded = F.pad(x[i : i + step], (pw, pw, ph, ph))
        drawn = torch.randperm(height * width, generator=generator)[: 2 * half].to(x.device)
        top, left = drawn // width * sh, drawn % width * sw
        taps = [padded[:, :, top + dh * a, left + dw * b] for a in range(kh) for b in range(kw)]
        patches = torch.stack(taps, 2).permute(0, 3, 1, 2)  # B positions C kh*kw
        yield patches[:, :half].flatten(0, 1).flatten(1), patches[:, half:].flatten(0, 1).flatten(1)


class _Geometry(NamedTuple):
    """The arguments of torch.nn.functional.unfold for a convolution."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def output_size(self, x: Tensor) -> tuple[int, int]:
        """Height and width of the output for an input (B, C, H, W)."""
        height, width = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in zip(x.shape[2:], *self, strict=True)
        )
        return height, width


def _geometry(conv: nn.Conv1d | nn.Conv2d) -> _Geometry:
    """The geometry of a convolution; one over a sequence is one over an image of height 1."""
    if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
        raise ZooError("A reader convolution needs zero padding given in numbers.")
    kernel, stride, padding, dilation = conv.kernel_size, conv.stride, conv.padding, conv.dilation
    if isinstance(conv, nn.Conv1d):
        return _Geometry((1, kernel[0]), (1, stride[0]), (0, padding[0]), (1, dilation[0]))
    return _Geometry(kernel, stride, padding, dilation)  # type: ignore[arg-type]


def _unfold_rows(geometry: _Geometry, x: Tensor) -> Tensor:
    """x (B, C, H, W) -> (B L, C kh kw), a row for each of the L output positions."""
    if geometry.kernel == (1, 1) and geometry.padding == (0, 0):
        x = x[:, :, :: geometry.stride[0], :: geometry.stride[1]]
        return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    patches = F.unfold(
        x, geometry.kernel, dilation=geometry.dilation, padding=geometry.padding, stride=geometry.stride
    )
    return patches.transpose(1, 2).flatten(0, 1)
