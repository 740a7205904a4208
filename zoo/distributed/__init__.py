"""Several processes that compute as one, on torch.distributed."""

from zoo.distributed.processes import (
    agreed,
    as_first,
    check_alike,
    count,
    device,
    from_first,
    gathered,
    joined,
    on_first,
    one_first,
    own,
    rank,
    together,
    total,
    whole,
)
from zoo.distributed.sharding import Share, shares
from zoo.distributed.sync_batch_norm import means, number, whole_batch

__all__ = [
    "Share",
    "agreed",
    "as_first",
    "check_alike",
    "count",
    "device",
    "from_first",
    "gathered",
    "joined",
    "means",
    "number",
    "on_first",
    "one_first",
    "own",
    "rank",
    "shares",
    "together",
    "total",
    "whole",
    "whole_batch",
]
