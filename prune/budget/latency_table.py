"""What widths cost in time on the device in use: a table measured group by group."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from zoo import distributed
from zoo.models import NeuronGroup, Stage, groups_of, prune_group, run, stages_of
from zoo.prune.engine import PruningSession
from zoo.timing import interleaved_seconds

STEPS = 8  # widths looked at: so many parts of the group
ROUNDS = 15
WARMUP = 3
BATCH, BATCH_GPU = 8, 32


class LatencyTable:
    """Milliseconds of one forward pass of a batch (8 samples, on a GPU 32), the groups' parts added up.

    whole   the unpruned network
    tables  group name -> (N + 1,) the stages from its first writer to its last reader, with n = 0 ... N neurons
    """

    def __init__(self, whole: float, tables: Mapping[str, Tensor]) -> None:
        self.whole = whole
        self.tables = dict(tables)
        self.sizes = {name: len(table) - 1 for name, table in tables.items()}

    def __call__(self, widths: Mapping[str, int]) -> float:
        """The whole network's time; a group that is not named is whole."""
        return self.whole + sum(float(self.tables[name][n] - self.tables[name][-1]) for name, n in widths.items())

    def cost_curve(self, group: str, widths: Mapping[str, int]) -> Tensor:
        """(N + 1,) milliseconds with n = 0 ... N neurons of one group; the widths of the others do not matter."""
        return self.tables[group]


def measure_latency(session: PruningSession, groups: Sequence[NeuronGroup], *, progress: bool = False) -> LatencyTable:
    """Measure on the workspace's device, with a batch of 8 samples or on a GPU of 32: what a card's forward time is of;
    of several processes on the first one's.

    Each group is timed alone at eighths of its width, the widths in turn so that a slow moment hits all alike, and the
    median of 15 rounds is taken; widths between are interpolated, and more neurons are never taken to be faster.
    """
    return distributed.run_on_rank0(lambda: _measured(session, groups, progress=progress))


@torch.no_grad()
def _measured(session: PruningSession, groups: Sequence[NeuronGroup], *, progress: bool) -> LatencyTable:
    few = BATCH_GPU if session.inputs.is_cuda else BATCH
    batch = session.inputs[torch.arange(few) % len(session.inputs)]
    stages = stages_of(session.model)
    whole = _times({0: (stages, batch)}, batch.device)[0]
    tables = {}
    for group in tqdm(groups, "latency", disable=None if progress else True, leave=False):
        first, end = _span(stages, group)
        state = run(stages[:first], batch)
        widths = sorted({max(1, round(step * group.size / STEPS)) for step in range(1, STEPS + 1)})
        variants: dict[int, tuple[Sequence[Stage], Any]] = {}
        for width in widths:
            model = copy.deepcopy(session.model)
            for hooked in model.modules():  # the copy's gates belong to the original's groups
                hooked._forward_pre_hooks.clear()
            prune_group(next(each for each in groups_of(model) if each.name == group.name), torch.arange(width))
            variants[width] = (stages_of(model)[first:end], state)
        seen = _times(variants, batch.device)
        n = np.arange(group.size + 1)
        table = torch.from_numpy(np.interp(n, widths, [seen[width] for width in widths]))
        tables[group.name] = table.cummax(0).values
    return LatencyTable(whole, tables)


def _span(stages: Sequence[Stage], group: NeuronGroup) -> tuple[int, int]:
    """The first stage that holds one of a group's writers or readers, and the one after the last; the whole chain where
    one of them is in none."""
    place = {
        id(module): index for index, stage in enumerate(stages) for top in stage.modules for module in top.modules()
    }
    wanted = [*group.writers, *(reader.module for reader in group.readers)]
    places = [place.get(id(module), -1) for module in wanted]
    return (0, len(stages)) if min(places) < 0 else (min(places), max(places) + 1)


def _times(variants: Mapping[int, tuple[Sequence[Stage], Any]], device: torch.device) -> dict[int, float]:
    """Median milliseconds of running each variant, stages on a state, with the variants interleaved."""
    calls = {key: partial(run, stages, state) for key, (stages, state) in variants.items()}
    times = interleaved_seconds(calls, device, repeats=ROUNDS, warmup=WARMUP)
    return {key: 1000 * statistics.median(seconds) for key, seconds in times.items()}
