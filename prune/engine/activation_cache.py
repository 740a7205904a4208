"""The data pushed as far through the network as pruning has come: what lies before a layer is computed once.

The network is a chain of stages (`zoo.models.groups.Stage`). Between two stages the state of every batch is kept in
memory up to a bound; past it the states stay where they last fitted and are pushed on again whenever they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from zoo import distributed
from zoo.models import NeuronGroup, Stage, run


class ActivationCache:
    """States of all batches in front of stage `position`.

    batches  inputs, a list of tensors (b, ...)
    memory   bytes that the kept states may take
    precision  what products are taken in (autocast), and so the type of most states; the last of several stages is
             float32, for its outputs are what is compared

    Of several processes each has its own rows of every batch (`zoo.distributed.shard`); one without any runs the first
    sample all the same, and what comes of it is left out.
    """

    def __init__(self, stages: Sequence[Stage], batches: Sequence[Tensor], *, memory: int,
                 precision: torch.dtype = torch.float32) -> None:  # fmt: skip
        self.stages = list(stages)
        self.memory = memory
        self.precision = precision
        self._device = batches[0].device.type
        self.sizes = [len(batch) for batch in batches]  # of all processes
        self.position = 0
        self._kept_at = 0
        self.local_samples: list[range] = []  # the numbers of this process's samples, batch by batch
        self._states: list[Any] = []
        for first, batch in zip(accumulate(self.sizes, initial=0), batches, strict=False):
            own = distributed.shard(len(batch))
            self.local_samples.append(range(first + own.start, first + own.stop))
            self._states.append(batch[own] if self.local_samples[-1] else batch[:1])
        self._place = {
            id(module): index
            for index, stage in enumerate(self.stages)
            for top in stage.modules
            for module in top.modules()
        }

    def stage_range(self, group: NeuronGroup) -> tuple[int, int]:
        """The first stage that reads a group, and the one after the last that does.

        A reader that no stage names may be called anywhere: then the span is the whole chain.
        """
        places = [self._place.get(id(reader.module), -1) for reader in group.readers]
        if min(places) < 0:
            return 0, len(self.stages)
        return min(places), max(places) + 1

    @torch.no_grad()
    def advance(self, position: int) -> None:
        """Move forward so that states lie in front of that stage; never back."""
        if position <= self.position:
            return
        self.position = position
        between = self.stages[self._kept_at : position]
        first = self._run(between, self._states[0])
        if _bytes(first) * len(self._states) <= self.memory:
            # One by one, so that old and new states are never all alive.
            for index, state in enumerate(self._states):
                self._states[index] = self._run(between, state)
            self._kept_at = position

    def states(self) -> Iterator[Any]:
        """The state in front of the current stage of every batch of which this process has samples."""
        for batch, numbers in enumerate(self.local_samples):
            if numbers:
                yield self.state(batch)

    @torch.no_grad()
    def state(self, batch: int) -> Any:
        """The state of one batch in front of the current stage."""
        return self._run(self.stages[self._kept_at : self.position], self._states[batch])

    def outputs(self, batch: int) -> Tensor:
        """(b, C) what the network gives for a batch, from the current stage on; of all processes."""
        part: Tensor = self.run_from(self.state(batch))
        return distributed.all_gather_rows(part[: len(self.local_samples[batch])], self.sizes[batch])

    def run_from(self, state: Any, *, until: int | None = None) -> Any:
        """From the current stage to the network's output, or to in front of stage `until`."""
        return self._run(self.stages[self.position : until], state)

    def _run(self, stages: Sequence[Stage], state: Any) -> Any:
        if self.precision == torch.float32 or not stages:
            return run(stages, state)
        ends, parts = stages[-1] is self.stages[-1], len(self.stages) > 1
        with torch.autocast(self._device, self.precision):
            state = run(stages[:-1] if ends and parts else stages, state)
        if ends:
            state = _in_float32(state)
        return run(stages[-1:], state) if ends and parts else state


def _in_float32(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.float() if state.dtype in (torch.bfloat16, torch.float16) else state
    return type(state)(_in_float32(part) for part in state)


def take_samples(state: Any, samples: Tensor) -> Any:
    """Some samples of a state: every tensor's rows (b, ...) -> (len(samples), ...)."""
    if isinstance(state, Tensor):
        return state[samples]
    return type(state)(take_samples(part, samples) for part in state)


def repeat_samples(state: Any, times: int) -> Any:
    """The same samples several times, one round after another: rows (b, ...) -> (times b, ...)."""
    if times == 1:
        return state
    return concatenate([state] * times)


def concatenate(states: Sequence[Any]) -> Any:
    """Several states as one, batch after batch."""
    if isinstance(states[0], Tensor):
        return torch.cat(list(states))
    return type(states[0])(concatenate(parts) for parts in zip(*states, strict=True))


def _bytes(state: Any) -> int:
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    return sum(_bytes(part) for part in state)
