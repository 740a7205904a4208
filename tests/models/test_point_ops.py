"""Neighbour search and sampling against plain Python loops and against torch.cdist."""

import math

import pytest
import torch

from zoo.errors import ZooError
from zoo.models import point_ops as points
from zoo.models.point_ops import ball_query, farthest_points, gather, knn, sortable_bits, topk_indices


def cloud(seed, batch, channels, n, dtype=torch.float64):
    return torch.randn(batch, channels, n, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def squared(a, b):
    return sum((p - q) ** 2 for p, q in zip(a, b, strict=True))


def columns(x):
    """(C, N) -> N lists of C numbers."""
    return x.t().tolist()


def sets(index):
    return index.sort(-1).values


@pytest.mark.parametrize(("channels", "n", "k"), [(3, 40, 7), (17, 33, 20), (3, 12, 12), (1, 9, 1)])
def test_knn_finds_what_all_distances_say(channels, n, k):
    x = cloud(0, 3, channels, n)
    rows = x.transpose(1, 2)
    truth = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").topk(k, largest=False).indices
    assert torch.equal(sets(knn(x, k)), sets(truth))


def test_knn_agrees_with_sorting_every_distance_in_python():
    x, k = cloud(1, 2, 5, 25), 6
    for b in range(2):
        rows = columns(x[b])
        for i, row in enumerate(rows):
            truth = sorted(range(25), key=lambda j, row=row, rows=rows: squared(row, rows[j]))[:k]
            found = knn(x, k)[b, i].tolist()
            assert sorted(found) == sorted(truth)
            assert i in found


def test_knn_agrees_with_the_negated_distances_of_the_dgcnn_authors_in_float32():
    x = cloud(2, 4, 64, 100, torch.float32)
    inner = -2 * torch.matmul(x.transpose(2, 1), x)
    norm = (x**2).sum(1, keepdim=True)
    truth = (-norm - inner - norm.transpose(2, 1)).topk(20, dim=-1).indices
    assert torch.equal(sets(knn(x, 20)), sets(truth))


@pytest.mark.parametrize("block", [1, 2 * 50, 2 * 50 * 7, 2 * 50 * 49])
def test_knn_in_blocks_equals_the_whole(monkeypatch, block):
    x = cloud(3, 2, 3, 50)
    whole = knn(x, 9)
    monkeypatch.setattr(points, "BLOCK", block)
    assert torch.equal(sets(knn(x, 9)), sets(whole))


def test_knn_says_how_many_points_there_are_and_how_many_are_needed():
    with pytest.raises(ZooError, match=r"19 points.*k = 20"):
        knn(cloud(4, 1, 3, 19), 20)


@pytest.mark.parametrize("n", [1, 5, 30])
def test_farthest_points_are_chosen_as_in_a_plain_loop(n):
    x = cloud(5, 3, 3, 30)
    found = farthest_points(x, n)
    assert found.shape == (3, n)
    for b in range(3):
        rows = columns(x[b])
        centre = [sum(values) / 30 for values in zip(*rows, strict=True)]
        chosen = [max(range(30), key=lambda i, rows=rows, centre=centre: squared(rows[i], centre))]
        while len(chosen) < n:
            gaps = [min(squared(row, rows[c]) for c in chosen) for row in rows]
            chosen.append(gaps.index(max(gaps)))
        assert found[b].tolist() == chosen
        assert len(set(chosen)) == n


def test_farthest_points_do_not_depend_on_the_rest_of_the_batch():
    x = cloud(6, 4, 3, 40)
    assert torch.equal(farthest_points(x, 12)[2:3], farthest_points(x[2:3], 12))


def test_farthest_points_says_how_many_points_there_are_and_how_many_are_needed():
    with pytest.raises(ZooError, match=r"10 points.*samples 11"):
        farthest_points(cloud(7, 1, 3, 10), 11)


@pytest.mark.parametrize(("radius", "k"), [(0.8, 5), (0.3, 8), (10.0, 6), (1.0, 45), (0.0, 3)])
def test_a_ball_holds_what_a_plain_loop_finds(radius, k):
    x = cloud(8, 2, 3, 30)
    centres = torch.cat([x[:, :, :6], cloud(9, 2, 3, 4), torch.full((2, 3, 1), 50.0, dtype=x.dtype)], 2)
    found = ball_query(x, centres, radius, k)
    assert found.shape == (2, 11, k)
    for b in range(2):
        rows = columns(x[b])
        for m, centre in enumerate(columns(centres[b])):
            gaps = [math.sqrt(squared(row, centre)) for row in rows]
            inside = [i for i, gap in enumerate(gaps) if gap <= radius][:k] or [gaps.index(min(gaps))]
            assert found[b, m].tolist() == inside + inside[:1] * (k - len(inside))


def test_a_point_on_the_edge_of_a_ball_is_within():
    x = torch.arange(6, dtype=torch.float64).view(1, 1, 6)
    assert ball_query(x, x[:, :, :1], 2.0, 4).tolist() == [[[0, 1, 2, 0]]]


def test_gather_is_indexing():
    x = cloud(10, 2, 4, 9)
    index = torch.randint(9, (2, 5, 3), generator=torch.Generator().manual_seed(0))
    found = gather(x, index)
    assert found.shape == (2, 4, 5, 3)
    for b in range(2):
        assert torch.equal(found[b], x[b][:, index[b]])
    assert torch.equal(gather(x, index[:, :, 0]), found[..., 0])


@pytest.mark.parametrize(("n", "k", "folds"), [(96, 5, 8), (96, 24, 4), (30, 10, 3), (12, 12, 1)])
def test_largest_in_two_levels_equals_one_long_sort_ties_included(n, k, folds):
    """Integers of a small range tie everywhere: then the values agree, whichever of them were taken."""
    for high in (10_000, 4):
        values = torch.randint(-high, high, (7, 3, n), generator=torch.Generator().manual_seed(0)).float()
        index = topk_indices(values, k, folds)
        assert all(len(set(row)) == k for row in index.flatten(0, 1).tolist())
        torch.testing.assert_close(values.gather(2, index).sort(2).values, values.topk(k).values.flip(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sortable_integers_sort_as_the_floats_do(dtype):
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=dtype)
    values = torch.cat([values * 10.0 ** torch.arange(-30, 20).repeat(20), torch.tensor([0.0, math.inf, -math.inf])])
    values = values.to(dtype)
    order = sortable_bits(values).argsort()
    assert (values[order].diff()[1:-1] >= 0).all()
    assert values[order[0]] == -math.inf
    assert values[order[-1]] == math.inf


@pytest.mark.parametrize("n", [100, 211, 400])
def test_knn_of_clouds_that_do_not_fold_evenly(n):
    """k = 5: rows of distances fold into 4, 6 (7) and 10 layers; 211 is filled up with columns infinitely far."""
    x = cloud(4, 2, 3, n)
    rows = x.transpose(1, 2)
    assert torch.equal(sets(knn(x, 5)), sets(torch.cdist(rows, rows).topk(5, largest=False).indices))


def test_knn_of_nan_names_points_that_exist():
    x = cloud(5, 1, 3, 211, torch.float32)
    x[0, 0, 3] = math.nan
    index = knn(x, 5)
    assert index.min() >= 0
    assert index.max() < 211
