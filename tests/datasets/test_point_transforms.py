"""Cloud functions against their definitions written out, and mesh sampling against torch_geometric's."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from zoo.datasets import LabelledDataset
from zoo.datasets import point_transforms as clouds
from zoo.errors import ZooError
from zoo.utils import generator_for


@pytest.fixture
def cloud() -> torch.Tensor:
    return torch.randn(3, 200, generator=generator_for("test cloud")) * torch.tensor([[1.0], [2.0], [0.5]]) + 3


def test_normalise_point_by_point(cloud: torch.Tensor) -> None:
    centre = [sum(axis) / 200 for axis in cloud.tolist()]
    moved = [[value - c for value in axis] for axis, c in zip(cloud.tolist(), centre, strict=True)]
    radius = max(math.sqrt(x * x + y * y + z * z) for x, y, z in zip(*moved, strict=True))
    expected = torch.tensor(moved) / radius
    torch.testing.assert_close(clouds.normalise(cloud), expected, atol=1e-5, rtol=0)


def test_normalise_treats_each_cloud_of_a_batch_alone(cloud: torch.Tensor) -> None:
    batch = torch.stack([cloud, 5 * cloud - 1, cloud.flip(0)])
    one_by_one = torch.stack([clouds.normalise(one) for one in batch])
    torch.testing.assert_close(clouds.normalise(batch), one_by_one)


def test_normalise_leaves_a_single_place_finite() -> None:
    assert clouds.normalise(torch.full((3, 4), 7.0)).equal(torch.zeros(3, 4))


def test_rotation_keeps_the_vertical_and_turns_x_to_y(cloud: torch.Tensor) -> None:
    turned = clouds.rotate(torch.tensor([[1.0], [0.0], [5.0]]), math.pi / 2)
    torch.testing.assert_close(turned, torch.tensor([[0.0], [1.0], [5.0]]), atol=1e-6, rtol=0)
    for axis in range(3):
        turned = clouds.rotate_randomly(cloud, generator_for(axis), axis=axis)
        assert turned[axis].equal(cloud[axis])
        assert not turned.allclose(cloud)
        torch.testing.assert_close(torch.cdist(turned.T, turned.T), torch.cdist(cloud.T, cloud.T), atol=2e-2, rtol=1e-3)


def test_scale_and_translate_has_the_authors_ranges(cloud: torch.Tensor) -> None:
    scales, shifts = [], []
    for trial in range(400):
        moved = clouds.scale_and_translate(cloud, generator_for(trial))
        scale = (moved[:, 1] - moved[:, 0]) / (cloud[:, 1] - cloud[:, 0])
        scales.append(scale)
        shifts.append(moved[:, 0] - scale * cloud[:, 0])
        torch.testing.assert_close(moved, scale[:, None] * cloud + shifts[-1][:, None], atol=1e-3, rtol=1e-3)
    for values, low, high in ((torch.cat(scales), 2 / 3, 3 / 2), (torch.cat(shifts), -0.2, 0.2)):
        assert low - 1e-3 <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high + 1e-3
        assert abs(values.mean() - (low + high) / 2) < 0.05 * (high - low)


def test_jitter_has_the_spread_it_names_and_a_limit() -> None:
    still = torch.zeros(3, 20000)
    moved = clouds.jitter(still, generator_for(0), sigma=0.02, limit=0.05)
    assert abs(moved.std() - 0.02) < 0.001
    assert moved.abs().max() == pytest.approx(0.05)


def _columns(cloud: torch.Tensor) -> list[tuple[float, ...]]:
    return sorted(tuple(point) for point in cloud.T.tolist())


def test_shuffle_and_subsample_only_choose(cloud: torch.Tensor) -> None:
    mixed = clouds.shuffle(cloud, generator_for(1))
    assert _columns(mixed) == _columns(cloud)
    assert not mixed.equal(cloud)
    few = clouds.subsample(cloud, 50, generator_for(1))
    assert few.shape == (3, 50)
    assert len(set(_columns(few))) == 50
    assert set(_columns(few)) <= set(_columns(cloud))
    with pytest.raises(ZooError, match="200 points has no 201"):
        clouds.subsample(cloud, 201, generator_for(1))


def test_partial_view_is_cut_by_a_plane(cloud: torch.Tensor) -> None:
    seen = clouds.partial_view(cloud, 120, generator_for(4))
    direction = torch.randn(3, generator=generator_for(4))
    kept = set(_columns(seen))
    lost = torch.tensor([point for point in _columns(cloud) if point not in kept])
    assert len(kept) == 120
    assert len(lost) == 80
    assert (direction @ seen).min() > (lost @ direction).max()


def test_the_far_sample_is_named() -> None:
    bad = torch.zeros(3, 5)
    assert clouds.check_cloud(bad, "row 3") is bad
    bad[1, 2], bad[0, 0] = float("nan"), float("inf")
    with pytest.raises(ZooError, match="row 3 holds 2 coordinates"):
        clouds.check_cloud(bad, "row 3")


def test_surface_sampling_equals_torch_geometric() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # importing it calls torch.jit.script
        from torch_geometric.data import Data
        from torch_geometric.transforms import SamplePoints
    vertices = torch.randn(30, 3, generator=generator_for("vertices"))
    faces = torch.randint(30, (3, 50), generator=generator_for("faces"))
    reach = vertices.abs().max()  # SamplePoints divides by it; the same mesh then, to the last digit
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        theirs = SamplePoints(1000)(Data(pos=vertices, face=faces)).pos
    ours = clouds.sample_surface((vertices / reach)[faces.T], 1000, torch.Generator().manual_seed(5)) * reach
    torch.testing.assert_close(ours, theirs.T, atol=1e-5, rtol=0)


def test_surface_sampling_is_uniform_on_the_area() -> None:
    # Two triangles in the plane z = 0, of area 0.5 and 4.5; the density must be the same on both.
    corners = torch.tensor([[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[2, 0, 0], [5, 0, 0], [2, 3, 0]]]).float()
    places = clouds.sample_surface(corners, 20000, generator_for(0))
    small = places[:, places[0] < 1.5]
    assert abs(small.shape[1] / 20000 - 0.1) < 0.01
    torch.testing.assert_close(small.mean(dim=1), torch.tensor([1 / 3, 1 / 3, 0.0]), atol=0.02, rtol=0)
    large = places[:, places[0] > 1.5]
    torch.testing.assert_close(large.mean(dim=1), torch.tensor([3.0, 1.0, 0.0]), atol=0.03, rtol=0)


class _Numbers(LabelledDataset):
    """Ten samples of one number each; training adds a random one."""

    def __init__(self, *, augment: bool, seed: int = 0) -> None:
        super().__init__(["even", "odd"], (1,), augment=augment, seed=seed)

    def __len__(self) -> int:
        return 10

    def label(self, index: int) -> int:
        return index % 2

    def load_sample(self, index: int) -> torch.Tensor:
        return torch.tensor([float(index)])

    def augmented(self, index: int, generator: torch.Generator) -> torch.Tensor:
        return self.load_sample(index) + torch.rand(1, generator=generator)


def test_augmentation_is_a_function_of_seed_epoch_and_index() -> None:
    data = _Numbers(augment=True)
    first = [x.item() for x, _ in data]  # iteration must end at the length
    backwards = [data[i][0].item() for i in reversed(range(10))]
    assert first == backwards[::-1]
    assert data[-1][0].item() == first[9]
    data.set_epoch(1)
    second = [x.item() for x, _ in data]
    assert all(a != b for a, b in zip(first, second, strict=True))
    data.set_epoch(0)
    assert [x.item() for x, _ in data] == first
    assert [x.item() for x, _ in _Numbers(augment=True, seed=1)] != first
    assert [x.item() for x, _ in _Numbers(augment=False)] == list(range(10))
    assert len({value % 1 for value in first + second}) == 20
    with pytest.raises(ZooError, match="not -1"):
        data.set_epoch(-1)
    with pytest.raises(IndexError):
        data[10]
