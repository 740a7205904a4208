"""The search for the smallest number of neurons that meets eps."""

import math
import random

import pytest

from zoo.prune.path import smallest_width


def search(size, gap, eps, **more):
    """The width, and how often the gap was computed."""
    evaluated = []

    def counted(n):
        evaluated.append(n)
        return gap(n)

    width = smallest_width(size, counted, eps, **more)
    assert len(set(evaluated)) == len(evaluated), "no gap is computed twice"
    assert all(0 < n < size for n in evaluated)
    return width, len(evaluated)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 64, 1000])
@pytest.mark.parametrize("ratio", [None, 1e-3, 1.0, 1e3])
def test_the_smallest_passing_number_of_a_falling_gap_is_found_whatever_the_guess(size, ratio):
    for threshold in {1, 2, size // 3 + 1, size - 1, size}:
        if threshold >= 1:
            width, _ = search(size, lambda n: 1.0 if n < threshold else 0.0, 0.5,  # noqa: B023
                             local_error=lambda n: (size - n) / size, ratio=ratio)  # fmt: skip
            assert width == min(max(threshold, 1), size)


@pytest.mark.parametrize("resolution", [2, 8])
def test_up_to_the_resolution(resolution):
    width, _ = search(500, lambda n: 500 - n, 123.5, resolution=resolution)
    assert 377 <= width < 377 + resolution


def test_a_gap_proportional_to_the_error_takes_few_evaluations():
    def error(n):
        return math.exp(-n / 100)

    width, count = search(1000, lambda n: 3 * error(n), 0.02, local_error=error, ratio=1.5)
    assert width == math.ceil(100 * math.log(3 / 0.02))
    assert count <= 5
    assert search(1000, lambda n: 3 * error(n), 0.02)[1] >= 9, "bisection takes more"


@pytest.mark.parametrize("seed", range(20))
def test_with_noise_the_answer_passes_and_one_within_the_resolution_below_fails(seed):
    noise = random.Random(seed)
    gaps = {n: 3 * math.exp(-n / 30) + noise.gauss(0, 0.02) for n in range(1, 200)}
    width, count = search(200, gaps.__getitem__, 0.05, resolution=3, local_error=lambda n: math.exp(-n / 30), ratio=5.0)
    assert width == 200 or gaps[width] < 0.05
    assert any(gaps[n] >= 0.05 for n in range(max(1, width - 3), width)) or width <= 3
    assert count < 20


def test_a_gap_that_is_infinite_is_a_failure_like_any_other():
    width, _ = search(100, lambda n: math.inf if n < 60 else 0.0, 0.1, local_error=lambda n: 1 - n / 100, ratio=1.0)
    assert width == 60


@pytest.mark.parametrize("seed", range(10))
def test_a_tolerance_ends_the_search_at_the_first_gap_that_is_near_enough(seed):
    noise = random.Random(seed)
    gaps = {n: 3 * math.exp(-n / 60) + noise.gauss(0, 0.002) for n in range(1, 400)}

    def with_tolerance(tolerance):
        error = {"local_error": lambda n: math.exp(-n / 60), "ratio": 5.0}
        return search(400, gaps.__getitem__, 0.05, **error, eps_tolerance=tolerance)

    (exact, all_), (near, fewer) = with_tolerance(0.0), with_tolerance(0.2)
    assert fewer <= all_
    assert near == exact or 0.04 <= gaps[near] < 0.05
    assert 0.0 <= near - exact < 20


def test_a_tolerance_takes_fewer_evaluations():
    def count(tolerance):
        return search(1000, lambda n: 1 - n / 1000, 0.5005, eps_tolerance=tolerance)[1]

    assert count(0.1) == 1 < count(0.0), "the first of a bisection is at 0.5"
    assert count(0.0005) > 1
