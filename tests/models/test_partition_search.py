"""The search by NumPy's partition against sorted distances: exact, also where the packed bits hide the order."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.models import point_ops
from zoo.models.kernels import nearest, partition_search
from zoo.models.kernels.partition_search import MAX_POINTS
from zoo.models.point_ops import knn


def distances(x: Tensor) -> Tensor:
    """(B, N, N) squared distances in float64, one subtraction for each."""
    x = x.double()
    return (x.unsqueeze(3) - x.unsqueeze(2)).square().sum(1)


def assert_nearest(x: Tensor, index: Tensor, *, error: float) -> None:
    """The k indices of each point differ, and none is farther, but for an error of the sum, than the k-th nearest."""
    every, k = distances(x), index.shape[2]
    assert bool((index.sort(2).values.diff(dim=2) > 0).all())
    farthest = every.gather(2, index).amax(2)
    truth = every.sort(2).values[:, :, k - 1]
    assert bool((farthest <= truth + error).all())


@pytest.mark.parametrize(("batch", "channels", "n", "k"), [
    (3, 3, 40, 7), (2, 17, 33, 20), (1, 3, 12, 12), (2, 1, 9, 1), (5, 64, 100, 20), (2, 3, 600, 20), (70, 2, 70, 3),
])  # fmt: skip
def test_all_are_the_nearest(batch: int, channels: int, n: int, k: int) -> None:
    x = torch.randn(batch, channels, n, generator=torch.Generator().manual_seed(0))
    assert_nearest(x, nearest(x, k), error=1e-4)


def test_the_largest_cloud_has_the_neighbours_of_plain_torch() -> None:
    x = torch.rand(1, 3, MAX_POINTS, generator=torch.Generator().manual_seed(1))
    ours, plain = nearest(x, 20).sort(2).values, point_ops._blocks(x, 20, 14).sort(2).values
    assert (ours == plain).all(2).float().mean() > 0.999  # distances that are equal up to rounding


@pytest.mark.parametrize("block", [1, 50 * 7, 50 * 50 * 2])
def test_blocks_of_any_size_give_the_same(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 3, 50, generator=torch.Generator().manual_seed(2))
    whole = nearest(x, 9).sort(2).values
    monkeypatch.setattr(partition_search, "_BLOCK", max(block, 50))
    assert torch.equal(nearest(x, 9).sort(2).values, whole)


def test_where_the_dropped_bits_hide_the_order_whole_distances_decide() -> None:
    """500 points on a line whose distances from the first differ in the last bits alone."""
    n = 500
    x = torch.zeros(1, 1, n)
    # In a random order, so that the column in the low bits does not sort them by chance.
    x[0, 0, 1:] = 1 + torch.randperm(n - 1, generator=torch.Generator().manual_seed(3)) * 2.0**-22
    distance = (x[0, 0] - x[0, 0, 0]).square().mul(0.5).expand(2, n).contiguous()
    found = partition_search._smallest(distance, torch.empty(2, n, dtype=torch.int32), 20)
    truth = distance.sort(1).indices[:, :20]
    assert torch.equal(found.sort(1).values, truth.sort(1).values)


@pytest.mark.parametrize("n", [6, 300])
def test_equal_points_and_grids_have_as_many_different_neighbours_as_others(n: int) -> None:
    same = torch.ones(2, 3, n)
    grid = torch.stack(torch.meshgrid(*[torch.arange(6.0)] * 3, indexing="ij")).reshape(1, 3, -1)
    for x in (same, grid):
        assert_nearest(x, nearest(x, 5), error=1e-4)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_numbers_that_are_not_finite_give_indices_in_range(wrong: float) -> None:
    x = torch.randn(2, 3, 100, generator=torch.Generator().manual_seed(4))
    x[0, 1, 7] = wrong
    index = nearest(x, 20)
    assert index.min() >= 0
    assert index.max() < 100
    assert_nearest(x[1:], index[1:], error=1e-4)  # the other cloud


def test_empty_batches() -> None:
    assert nearest(torch.empty(0, 3, 30), 4).shape == (0, 30, 4)


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(2, 3, 600), (40, 3, 100)])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_threads_give_the_same(shape: tuple[int, ...], mode: Any, three_threads: None) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    with mode():
        found = nearest(x, 20)
    torch.set_num_threads(1)
    assert torch.equal(found, nearest(x, 20))


def test_an_error_in_a_thread_is_raised(three_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("in a thread")

    monkeypatch.setattr(partition_search, "_smallest", fail)
    with pytest.raises(RuntimeError, match="in a thread"):
        nearest(torch.randn(2, 3, 600), 20)


def test_torch_uses_as_many_threads_as_before_and_one_in_each_of_ours(three_threads: None) -> None:
    partition_search._workers.cache_clear()
    workers = partition_search._workers(os.getpid(), 3)
    assert torch.get_num_threads() == 3
    assert set(workers.map(lambda _: torch.get_num_threads(), range(12))) == {1}
    with ThreadPoolExecutor(1) as later:  # a thread that comes later
        assert later.submit(torch.get_num_threads).result() == 3


def _in_workers() -> list[int]:
    return list(partition_search._workers(os.getpid(), 3).map(abs, range(-5, 0)))


def test_a_process_that_was_forked_off_has_threads_of_its_own(three_threads: None) -> None:
    assert _in_workers() == [5, 4, 3, 2, 1]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_in_workers).get(timeout=60) == [5, 4, 3, 2, 1]


def test_knn_takes_it_where_it_is_faster(three_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(point_ops.kernels, "nearest", lambda x, k: calls.append(x.dtype) or nearest(x, k))
    x = torch.randn(1, 3, 60, generator=torch.Generator().manual_seed(6))
    knn(x, 5)
    assert not calls  # too little for three threads
    knn(torch.randn(32, 3, 512), 5)
    assert len(calls) == 1
    torch.set_num_threads(1)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        knn(x.to(dtype), 5)
    assert calls == [torch.float32] * 3  # and bfloat16 as float32
    knn(torch.randn(1, 3, MAX_POINTS + 1), 2)
    monkeypatch.setattr(partition_search, "_HAS_FAST_PARTITION", False)
    assert torch.equal(knn(x, 5).sort(2).values, nearest(x, 5).sort(2).values)
    assert len(calls) == 3
