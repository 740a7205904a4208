"""Several processes that compute as one, on torch.distributed."""

from zoo.distributed.processes import (
    all_gather_object,
    all_gather_rows,
    all_reduce,
    any_rank,
    broadcast_object,
    broadcast_tensors,
    check_same,
    is_distributed,
    local_device,
    local_rank0_first,
    process_group,
    rank,
    run_on_rank0,
    shard,
    world_size,
)
from zoo.distributed.sharding import Share, shares
from zoo.distributed.sync_batch_norm import all_reduce_mean, global_count, sync_batch_norms

__all__ = [
    "Share",
    "all_gather_object",
    "all_gather_rows",
    "all_reduce",
    "all_reduce_mean",
    "any_rank",
    "broadcast_object",
    "broadcast_tensors",
    "check_same",
    "global_count",
    "is_distributed",
    "local_device",
    "local_rank0_first",
    "process_group",
    "rank",
    "run_on_rank0",
    "shard",
    "shares",
    "sync_batch_norms",
    "world_size",
]
