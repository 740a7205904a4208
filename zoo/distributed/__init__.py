"""Several processes that compute what one would, on torch.distributed, and the devices that they run on.

Importing this imports no torch: what a command can check without it comes first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_LAZY = {
    "device": ("device_of", "dtype_of", "local_device"),
    "launch": ("process_group",),
    "micro_batch": ("MicroBatch", "micro_batches"),
    "sync_batch_norm": ("all_reduce_mean", "global_count", "sync_batch_norms"),
}
_FILES = {name: file for file, names in _LAZY.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"zoo.distributed.{_FILES.get(name, 'collectives')}"), name)
