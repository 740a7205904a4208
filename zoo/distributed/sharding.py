"""Which samples of a training batch this process runs, where several processes share it."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.distributed import processes


@dataclass(frozen=True)
class Share:
    """This process's samples of one part of a batch, which has `size` of them.

    Where there are fewer samples than processes, one that is left over runs the part's first sample, so that all keep
    step; it does not count.
    """

    numbers: list[int]
    size: int
    counts: bool


def shares(batch: list[int], parts: int) -> list[Share]:
    """This process's samples of every part of a batch. It is cut as one process cuts it, then each part is shared."""
    base, more = divmod(len(batch), parts)
    cut, start = [], 0
    for size in (base + (part < more) for part in range(parts)):
        part = batch[start : start + size]
        own = part[processes.shard(size)]
        cut.append(Share(own or part[:1], size, bool(own)))
        start += size
    return cut
