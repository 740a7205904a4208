"""Scales on the neurons of a network that is still whole: what the searches try, before anything is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from zoo.models import NeuronGroup, Reader


class Gates:
    """Forward pre-hooks that multiply neuron i by s_i wherever it is read.

    A context manager: the hooks are gone when it closes. `set` takes effect at the next forward; a scale that
    requires gradients gets them.
    """

    def __init__(self, groups: Sequence[NeuronGroup]) -> None:
        self._scales: dict[str, Tensor | None] = {group.name: None for group in groups}
        self._handles = [
            reader.module.register_forward_pre_hook(self._hook(group.name, reader))
            for group in groups
            for reader in group.readers
        ]

    def set(self, group: str, scale: Tensor | None) -> None:
        """Scale (N,) of one group, or one for each sample (b, N), or None for the unpruned one."""
        self._scales[group] = scale

    def get(self, group: str) -> Tensor | None:
        return self._scales[group]

    def _hook(self, group: str, reader: Reader) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...] | None]:
        channels = reader.channels

        def multiply(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
            nonlocal channels
            scale, x = self._scales[group], inputs[0]
            if scale is None:
                return None
            if scale.device != x.device or channels.device != x.device:  # once: a GPU would be waited for each time
                channels = channels.to(x.device)
                scale = self._scales[group] = scale.to(x.device)
            return ((spread(channels, reader.channel_dim, scale, x) * x).to(x.dtype), *inputs[1:])

        return multiply

    def __enter__(self) -> Gates:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
                 ) -> None:
        for handle in self._handles:
            handle.remove()


def spread(channels: Tensor, channel_dim: int, scale: Tensor, x: Tensor) -> Tensor:
    """The scale (N,) or (b, N) laid along a reader's input channels, 1 where a channel is no neuron of the group;
    shaped to multiply x, in float32 at least. A linear layer may read several rows of each sample: x (b m, C), sample
    after sample. `channels` (N, c) as in `zoo.models.groups.Reader`, on x's device."""
    dim = channel_dim % x.dim()
    exact = torch.promote_types(x.dtype, torch.float32)  # half precision takes 1.003 for 1
    factor = torch.ones((*scale.shape[:-1], x.shape[dim]), dtype=exact, device=x.device)
    values = scale.to(factor).repeat_interleave(channels.shape[1], -1)
    factor = factor.index_copy(-1, channels.flatten(), values)
    shape = [-1 if d == dim else 1 for d in range(x.dim())]
    if scale.dim() == 2:
        factor = factor.repeat_interleave(len(x) // len(scale), 0)
        shape[0] = len(x)
    return factor.view(shape)
