"""Forward passes of a network in which the neurons of one group are scaled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from zoo.models import NeuronGroup
from zoo.prune.engine.activation_cache import ActivationCache, take_samples
from zoo.prune.engine.discrepancy import Target
from zoo.prune.engine.gates import Gates


class GatedGroup:
    """One neuron group of a network that is being pruned; every forward pass starts in front of its first reader.

    group        the N neurons
    activations  the states of all samples in front of the stage that holds the group's first reader
    gates        scales of all groups; only those of this group change here
    target       the reference logits, and the labels
    batch_size   samples of a mini-batch
    judges       how many samples, the first ones, judge a gap and choose no neurons; all samples do both where it is
                 their number
    """

    def __init__(
        self, group: NeuronGroup, activations: ActivationCache, gates: Gates, target: Target, *, batch_size: int,
        judges: int | None = None,
    ) -> None:
        self.group = group
        self.activations = activations
        self.gates = gates
        self.target = target
        self.batch_size = batch_size
        total = sum(activations.sizes)
        self.judges = judges or total
        self.first_chooser = self.judges % total
        # Many samples fill a GPU; on a CPU few stay in its caches.
        self.max_forward_samples = 16 * batch_size if target.reference.is_cuda else batch_size

    @property
    def size(self) -> int:
        """N, the number of neurons."""
        return self.group.size

    @property
    def num_choosers(self) -> int:
        """The number of samples, of all processes, that neurons are chosen on."""
        return sum(self.activations.sizes) - self.first_chooser

    @property
    def chooser_batches(self) -> range:
        """The indices of the batches of samples that neurons are chosen on."""
        starts = [0, *accumulate(self.activations.sizes)]
        return range(starts.index(self.first_chooser), len(self.activations.sizes))

    def forward(self, state: Any, scale: Tensor) -> Tensor:
        """Logits (b, C) from a state of b samples, with the group scaled by s (N,), or by s (b, N) sample by sample."""
        with self._gates_set(scale):
            logits: Tensor = self.activations.run_from(state)
        return logits

    def iter_logits(self, scale: Tensor, batches: Iterable[int] | None = None) -> Iterator[Tensor]:
        """Logits (b, C) of one batch after another, of all processes, with the group scaled by s (N,): of all batches,
        those that judge first, or of some."""
        for batch in range(len(self.activations.sizes)) if batches is None else batches:
            with self._gates_set(scale):
                logits = self.activations.outputs(batch)
            yield logits

    def iter_states(self, samples: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """The states of this process's part of some samples (b,), ascending indices on the CPU, batch by batch; and the
        indices of that part on the device of the data."""
        for batch, local in enumerate(self.activations.local_samples):
            inside = samples[(samples >= local.start) & (samples < local.stop)]
            if len(inside):
                rows, inside = self._to_device(inside - local.start), self._to_device(inside)
                yield take_samples(self.activations.state(batch), rows), inside

    @torch.no_grad()
    def run_readers(self, batch: int) -> None:
        """Run one batch up to the end of the stage that holds the group's last reader, with no gate on the group."""
        self.gates.set(self.group.name, None)
        end = self.activations.stage_range(self.group)[1]
        self.activations.run_from(self.activations.state(batch), until=end)

    @contextmanager
    def _gates_set(self, scale: Tensor) -> Iterator[None]:
        self.gates.set(self.group.name, scale)
        try:
            yield
        finally:
            self.gates.set(self.group.name, None)

    def _to_device(self, indices: Tensor) -> Tensor:
        """Indices (b,) from the CPU on the device of the data; a copy from pinned memory does not wait for a GPU."""
        device = self.target.reference.device
        return indices.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else indices.to(device)
