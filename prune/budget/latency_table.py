"""The forward time of a network as a function of its widths: a table measured group by group on the device in use."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo import distributed
from zoo.models import NeuronGroup, Stage, groups_of, prune_group, run, stage_range, stages_of
from zoo.prune.engine import PruningSession
from zoo.timing import interleaved_seconds
from zoo.utils import progress_bar

STEPS = 8  # a group is timed at multiples of an eighth of its width
ROUNDS = 15
WARMUP = 3
BATCH, BATCH_GPU = 8, 32


class LatencyTable:
    """Milliseconds of one forward pass of a batch (8 samples, on a GPU 32), as a sum over groups.

    unpruned  milliseconds of the unpruned network
    tables    group name -> (N + 1,) milliseconds of the stages from the group's first writer to its last reader, with
              n = 0 ... N neurons
    """

    def __init__(self, unpruned: float, tables: Mapping[str, Tensor]) -> None:
        self.unpruned = unpruned
        self.tables = dict(tables)
        self.sizes = {name: len(table) - 1 for name, table in tables.items()}

    def __call__(self, widths: Mapping[str, int]) -> float:
        """Milliseconds with these widths; a group that is not named is unpruned."""
        return self.unpruned + sum(float(self.tables[name][n] - self.tables[name][-1]) for name, n in widths.items())

    def cost_curve(self, group: str, widths: Mapping[str, int]) -> Tensor:
        """(N + 1,) milliseconds with n = 0 ... N neurons of one group; the widths of the others do not matter."""
        return self.tables[group]


def measure_latency(session: PruningSession, groups: Sequence[NeuronGroup], *, progress: bool = False) -> LatencyTable:
    """Measure the table on the session's device, with batches of 8 samples, on a GPU of 32, as for the forward times of
    cards. Of several processes the first measures.

    Each group is timed alone at eighths of its width, with the widths interleaved so that a slow moment of the machine
    hits all alike. The table has the median of 15 rounds, interpolated between these widths, and made to rise with n.
    """
    return distributed.run_on_rank0(lambda: _measure(session, groups, progress=progress))


@torch.no_grad()
def _measure(session: PruningSession, groups: Sequence[NeuronGroup], *, progress: bool) -> LatencyTable:
    size = BATCH_GPU if session.inputs.is_cuda else BATCH
    batch = session.inputs[torch.arange(size) % len(session.inputs)]
    stages = stages_of(session.model)
    unpruned = _median_milliseconds({0: (stages, batch)}, batch.device)[0]
    tables = {}
    for group in progress_bar(groups, "latency", show=progress):
        first, end = stage_range(stages, (*group.writers, *(reader.module for reader in group.readers)))
        state = run(stages[:first], batch)
        widths = sorted({max(1, round(step * group.size / STEPS)) for step in range(1, STEPS + 1)})
        variants: dict[int, tuple[Sequence[Stage], Any]] = {}
        for width in widths:
            model = copy.deepcopy(session.model)
            for module in model.modules():  # the gates of the copy belong to the groups of the original
                module._forward_pre_hooks.clear()
            prune_group(next(copied for copied in groups_of(model) if copied.name == group.name), torch.arange(width))
            variants[width] = (stages_of(model)[first:end], state)
        times = _median_milliseconds(variants, batch.device)
        n = np.arange(group.size + 1)
        table = torch.from_numpy(np.interp(n, widths, [times[width] for width in widths]))
        tables[group.name] = table.cummax(0).values
    return LatencyTable(unpruned, tables)


def _median_milliseconds(
    variants: Mapping[int, tuple[Sequence[Stage], Any]], device: torch.device
) -> dict[int, float]:
    """Median milliseconds of running each variant, stages on a state, with the variants interleaved."""
    calls = {key: partial(run, stages, state) for key, (stages, state) in variants.items()}
    times = interleaved_seconds(calls, device, repeats=ROUNDS, warmup=WARMUP)
    return {key: 1000 * statistics.median(seconds) for key, seconds in times.items()}
