"""The parts of a training batch (gradient accumulation), and the samples of each part that this process runs."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.distributed.collectives import shard


@dataclass(frozen=True)
class MicroBatch:
    """This process's samples of one part of a batch.

    indices  numbers of the samples in the data set
    size     samples of the part over all processes
    counted  False for a process that has no sample of the part: `indices` is then the part's first sample, which the
             process runs without weight, because all processes must take the same steps
    """

    indices: list[int]
    size: int
    counted: bool


def micro_batches(batch: list[int], parts: int) -> list[MicroBatch]:
    """This process's samples of each of the `parts` parts of a batch, given by its sample numbers.

    The parts are those of a single process; each part is then sharded over the processes.
    """
    base, more = divmod(len(batch), parts)
    result, start = [], 0
    for size in (base + (part < more) for part in range(parts)):
        part = batch[start : start + size]
        local = part[shard(size)]
        result.append(MicroBatch(local or part[:1], size, bool(local)))
        start += size
    return result
