"""Faster forms of single operations, for one kind of processor each; `zoo.models.point_ops` chooses among them."""

from zoo.models.kernels.autotune import fastest_known, load_triton, run_fastest
from zoo.models.kernels.partition_search import is_faster, nearest

__all__ = ["fastest_known", "is_faster", "load_triton", "nearest", "run_fastest"]
