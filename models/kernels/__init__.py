"""Faster forms of single operations, for one kind of processor each; `zoo.models.point_ops` chooses among them."""

from zoo.models.kernels.autotune import fastest_known, load_triton, run_fastest
from zoo.models.kernels.partition_search import MAX_POINTS, nearest

__all__ = ["MAX_POINTS", "fastest_known", "load_triton", "nearest", "run_fastest"]
