"""Several processes that compute what one would, on torch.distributed, and the devices that they run on.

Importing this imports no torch: what a command can check without it comes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.utils import lazy_imports

if TYPE_CHECKING:
    from zoo.distributed.collectives import (
        all_gather_object,
        all_gather_rows,
        all_reduce,
        all_reduce_gradients,
        any_rank,
        broadcast_object,
        broadcast_tensors,
        check_same,
        is_distributed,
        local_rank0_first,
        rank,
        run_on_rank0,
        shard,
        shared_errors,
        world_size,
    )
    from zoo.distributed.device import device_of, dtype_of, local_device
    from zoo.distributed.launch import process_group
    from zoo.distributed.micro_batch import MicroBatch, micro_batches
    from zoo.distributed.sync_batch_norm import all_reduce_mean, global_count, sync_batch_norms

__all__ = [
    "MicroBatch", "all_gather_object", "all_gather_rows", "all_reduce", "all_reduce_gradients", "all_reduce_mean",
    "any_rank", "broadcast_object", "broadcast_tensors", "check_same", "device_of", "dtype_of", "global_count",
    "is_distributed", "local_device", "local_rank0_first", "micro_batches", "process_group", "rank", "run_on_rank0",
    "shard", "shared_errors", "sync_batch_norms", "world_size",
]  # fmt: skip

__getattr__ = lazy_imports(__name__, __file__)
