"""Activations of the pruning data, kept in front of the layer that pruning has reached.

The network is a sequence of stages (`zoo.models.groups.Stage`). Pruning goes from input to output, so everything before
the current stage is final and runs once. Its outputs, the states, are kept for all batches up to a limit of memory.
Past the limit they are kept at the last stage that fit in memory, and the stages from there on run again at each read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from zoo import distributed
from zoo.models import NeuronGroup, Stage, run, stage_range


class ActivationCache:
    """The states of all batches in front of stage `position`.

    stages       all stages of the network
    batches      its inputs, a list of tensors (b, ...)
    cache_bytes  the most that the kept states may take
    precision    dtype of products (torch.autocast), and so of most states. The last of several stages runs in float32,
                 because its outputs are what is compared

    Of several processes each keeps its shard of every batch (`zoo.distributed.shard`). A process whose shard
    is empty runs the batch's first sample all the same, and drops the result.
    """

    def __init__(self, stages: Sequence[Stage], batches: Sequence[Tensor], *, cache_bytes: int,
                 precision: torch.dtype = torch.float32) -> None:  # fmt: skip
        self.stages = list(stages)
        self.cache_bytes = cache_bytes
        self.precision = precision
        self._device = batches[0].device.type
        self.sizes = [len(batch) for batch in batches]  # of all processes
        self.position = 0
        self._cached_at = 0  # the stage in front of which the states are cached
        self.local_samples: list[range] = []  # indices of this process's samples, batch by batch
        self._states: list[Any] = []
        for first, batch in zip(accumulate(self.sizes, initial=0), batches, strict=False):
            shard = distributed.shard(len(batch))
            self.local_samples.append(range(first + shard.start, first + shard.stop))
            self._states.append(batch[shard] if self.local_samples[-1] else batch[:1])

    def stage_range(self, group: NeuronGroup) -> tuple[int, int]:
        """The index of the first stage that reads a group, and one past that of the last."""
        return stage_range(self.stages, (reader.module for reader in group.readers))

    @torch.no_grad()
    def advance(self, position: int) -> None:
        """Move the states in front of stage `position`; a position before the current one changes nothing."""
        if position <= self.position:
            return
        self.position = position
        between = self.stages[self._cached_at : position]
        first = self._run(between, self._states[0])
        if _num_bytes(first) * len(self._states) <= self.cache_bytes:
            # One by one, so that old and new states are never all in memory.
            for index, state in enumerate(self._states):
                self._states[index] = self._run(between, state)
            self._cached_at = position

    def states(self) -> Iterator[Any]:
        """The states in front of the current stage of all batches in which this process has samples."""
        for batch, local in enumerate(self.local_samples):
            if local:
                yield self.state(batch)

    @torch.no_grad()
    def state(self, batch: int) -> Any:
        """This process's state of one batch in front of the current stage."""
        return self._run(self.stages[self._cached_at : self.position], self._states[batch])

    def outputs(self, batch: int) -> Tensor:
        """Logits (b, C) of one batch, gathered from all processes."""
        local: Tensor = self.run_from(self.state(batch))
        return distributed.all_gather_rows(local[: len(self.local_samples[batch])], self.sizes[batch])

    def run_from(self, state: Any, *, until: int | None = None) -> Any:
        """Run from the current stage to the network's output, or to in front of stage `until`."""
        return self._run(self.stages[self.position : until], state)

    def _run(self, stages: Sequence[Stage], state: Any) -> Any:
        if self.precision == torch.float32 or not stages:
            return run(stages, state)
        includes_last_stage, has_many_stages = stages[-1] is self.stages[-1], len(self.stages) > 1
        with torch.autocast(self._device, self.precision):
            state = run(stages[:-1] if includes_last_stage and has_many_stages else stages, state)
        if includes_last_stage:
            state = _to_float32(state)
        return run(stages[-1:], state) if includes_last_stage and has_many_stages else state


def _to_float32(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.float() if state.dtype in (torch.bfloat16, torch.float16) else state
    return type(state)(_to_float32(part) for part in state)


def take_samples(state: Any, samples: Tensor) -> Any:
    """The rows `samples` (n,) of a state: every tensor (b, ...) -> (n, ...)."""
    if isinstance(state, Tensor):
        return state[samples]
    return type(state)(take_samples(part, samples) for part in state)


def repeat_samples(state: Any, times: int) -> Any:
    """A state with all of its samples repeated one round after another: (b, ...) -> (times b, ...)."""
    if times == 1:
        return state
    return concatenate([state] * times)


def concatenate(states: Sequence[Any]) -> Any:
    """One state with the samples of several, in their order."""
    if isinstance(states[0], Tensor):
        return torch.cat(list(states))
    return type(states[0])(concatenate(parts) for parts in zip(*states, strict=True))


def _num_bytes(state: Any) -> int:
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    return sum(_num_bytes(part) for part in state)
