"""Scales on the neurons of an unpruned network, which searches try before anything is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from zoo.models import NeuronGroup, Reader


class Gates(ExitStack):
    """Forward pre-hooks that multiply neuron i of a group by s_i in the input of each of its readers.

    A context manager, which removes the hooks when it closes. Gradients flow to a scale that requires them.
    """

    def __init__(self, groups: Sequence[NeuronGroup]) -> None:
        super().__init__()
        self._scales: dict[str, Tensor | None] = {group.name: None for group in groups}
        for group in groups:
            for reader in group.readers:
                self.callback(reader.module.register_forward_pre_hook(self._hook(group.name, reader)).remove)

    def set(self, group: str, scale: Tensor | None) -> None:
        """Set the scale of a group from the next forward on: s (N,), s (b, N) sample by sample, or None for no gate."""
        self._scales[group] = scale

    def get(self, group: str) -> Tensor | None:
        """The scale of a group, or None where it has no gate."""
        return self._scales[group]

    def _hook(self, group: str, reader: Reader) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
        channels = reader.channels

        def multiply(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
            nonlocal channels
            scale, x = self._scales[group], inputs[0]
            if scale is None:
                return None
            # Moved once: a copy in every forward would make the host wait for the GPU.
            if scale.device != x.device or channels.device != x.device:
                channels = channels.to(x.device)
                scale = self._scales[group] = scale.to(x.device)
            return ((channel_factor(channels, reader.channel_dim, scale, x) * x).to(x.dtype), *inputs[1:])

        return multiply


def channel_factor(channels: Tensor, channel_dim: int, scale: Tensor, x: Tensor) -> Tensor:
    """The scale of the neurons as a factor for a reader's input x: 1 in channels that are no neuron of the group.

    channels     (N, m), the channels of each neuron (`zoo.models.groups.Reader`), on the device of x
    channel_dim  the dimension of the channels in x
    scale        (N,), or (b, N) for b samples; x may hold several rows of each sample, sample after sample

    The factor broadcasts against x and is in float32 at least.
    """
    dim = channel_dim % x.dim()
    factor_dtype = torch.promote_types(x.dtype, torch.float32)  # bfloat16 rounds 1.003 to 1
    factor = torch.ones((*scale.shape[:-1], x.shape[dim]), dtype=factor_dtype, device=x.device)
    values = scale.to(factor).repeat_interleave(channels.shape[1], -1)
    factor = factor.index_copy(-1, channels.flatten(), values)
    shape = [-1 if d == dim else 1 for d in range(x.dim())]
    if scale.dim() == 2:
        factor = factor.repeat_interleave(len(x) // len(scale), 0)
        shape[0] = len(x)
    return factor.view(shape)
