"""Numbers on cards that memory would follow."""

import pytest
from store_entries import plain

from zoo.cards import MAX_CLASSES
from zoo.datasets import MAX_POINTS
from zoo.errors import ZooError


@pytest.mark.parametrize("shape", [(3, 10**12), (3, 2**24), (2**12, 2**12, 2), (2,) * 25, (2**24 + 1,)])
def test_a_sample_that_fills_the_memory_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ZooError, match=r"sample_shape \[.* has more than 16777216 numbers"):
        plain("net.shapes", sample_shape=shape)


@pytest.mark.parametrize("shape", [(3, 5_500_000), (3, MAX_POINTS + 1)])  # of which networks look at all pairs
def test_a_cloud_of_too_many_points_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ZooError, match=r"sample_shape \[3, \d+\] has more than 65536 points"):
        plain("net.shapes", sample_shape=shape)


def test_samples_of_every_use_are_taken() -> None:
    for shape in ((3, MAX_POINTS), (3, 2000, 2000), (10**7,)):
        assert plain("net.shapes", sample_shape=shape).sample_shape == shape


def test_more_classes_than_a_network_can_have_are_refused() -> None:
    assert plain("net.shapes", num_classes=MAX_CLASSES).num_classes == MAX_CLASSES
    with pytest.raises(ZooError, match="num_classes is 1000001; at most 1000000 are possible"):
        plain("net.shapes", num_classes=MAX_CLASSES + 1)
