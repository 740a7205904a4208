"""Solids against the areas and shapes of geometry, and the data set against itself made in another order."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch.utils.data import DataLoader

from zoo.datasets import list_datasets, load, record, solids
from zoo.datasets import point_transforms as clouds
from zoo.datasets import shapes as shapes_module
from zoo.datasets.shapes import Shapes
from zoo.errors import ZooError
from zoo.utils import generator_for


def area(mesh: torch.Tensor) -> float:
    """Of a mesh (F, 3, 3), by Heron's formula, which shares nothing with the sampler's cross products."""
    a, b, c = ((mesh[:, i] - mesh[:, j]).double().norm(dim=1) for i, j in ((0, 1), (1, 2), (2, 0)))
    half = (a + b + c) / 2
    return float((half * (half - a) * (half - b) * (half - c)).clamp(min=0).sqrt().sum())


def volume(mesh: torch.Tensor) -> float:
    """Of a closed mesh with all its triangles turned the same way, by the divergence theorem."""
    return abs(float(torch.linalg.det(mesh.double()).sum()) / 6)


def fixed(*numbers: float) -> solids.Draw:
    """A draw that gives these numbers, in turn."""
    left = list(numbers)
    return lambda low, high: left.pop(0)


R, H = 1.0, 1.5


@pytest.mark.parametrize(
    ("name", "numbers", "expected"),
    [
        ("sphere", (), 4 * math.pi),
        ("torus", (0.3,), 4 * math.pi**2 * 0.3),
        ("cylinder", (H / 2,), 2 * math.pi * H + 2 * math.pi),
        ("cone", (H,), math.pi * math.hypot(1, H) + math.pi),
        ("frustum", (0.5, H), math.pi * 1.5 * math.hypot(0.5, H) + math.pi * 1.25),
        ("capsule", (H / 2,), 4 * math.pi + 2 * math.pi * H),
        ("dome", (0.0,), 3 * math.pi),
        ("tube", (0.5, H), 2 * math.pi * 1.5 * H + 2 * math.pi * 0.75),
        ("box", (H / 2,), 4 * math.sqrt(2) * H + 2 * 2),
        ("hexagonal_prism", (H / 2,), 6 * H + 3 * math.sqrt(3)),
        ("triangular_prism", (H / 2,), 3 * math.sqrt(3) * H + 2 * 3 * math.sqrt(3) / 4),
        ("pyramid", (H,), 2 + 4 * math.sqrt(2) / 2 * math.hypot(H, math.sqrt(0.5))),
        ("tetrahedron", (math.sqrt(2),), math.sqrt(3) * 3),  # height sqrt(2/3) a with a = sqrt(3): the regular one
        ("helix", (2.0, 0.6, 0.15), 2 * math.pi * 0.15 * 2 * math.hypot(2 * math.pi, 0.6)),
    ],
)
def test_areas_are_those_of_geometry(name: str, numbers: tuple[float, ...], expected: float) -> None:
    mesh = solids.SOLIDS[name](fixed(*numbers))
    round_one = name not in ("box", "hexagonal_prism", "triangular_prism", "pyramid", "tetrahedron")
    # Facets lie inside a curved surface: never more area than the real one, and a few per cent less at most.
    # A helix's pipe has 12 facets: 2.3 % less by itself.
    assert area(mesh) == pytest.approx(expected, rel=0.05 if round_one else 1e-5)
    assert area(mesh) <= expected * (1 + 1e-5)


@pytest.mark.parametrize(
    ("name", "cells", "edges"),
    [("l_block", 3, 8), ("t_block", 4, 10), ("cross", 5, 12), ("arch", 5, 12), ("stairs", 6, 12)],
)
def test_extruded_drawings_have_no_inner_wall(name: str, cells: int, edges: int) -> None:
    # With unit cells the surface is both faces of every cell and one wall for each unit of outline.
    mesh = solids.SOLIDS[name](lambda low, high: 1.0)
    assert area(mesh) == pytest.approx(2 * cells + edges)


def test_revolved_solids_are_closed_and_turned_the_same_way() -> None:
    assert volume(solids._prism(fixed(H / 2), 4)) == pytest.approx(2 * H, rel=1e-5)
    assert volume(solids._cone(fixed(H), 3)) == pytest.approx(3 * math.sqrt(3) / 4 * H / 3, rel=1e-5)
    assert volume(solids._sphere(fixed())) == pytest.approx(4 / 3 * math.pi, rel=0.02)


def test_points_on_a_stretched_sphere_are_uniform_on_its_area() -> None:
    # Archimedes: on a sphere the height is uniform. On an ellipsoid of revolution (a, a, c) its density grows as
    # sqrt(1 + (a^2/c^2 - 1) z^2 / c^2), integrated here by plain summation.
    for c in (1.0, 2.5):
        mesh = solids.SOLIDS["sphere"](fixed()) * torch.tensor([1.0, 1.0, c])
        z = clouds.sample_surface(mesh, 40000, generator_for(0))[2] / c
        grid = (torch.arange(2000) + 0.5) / 1000 - 1
        weight = (1 + (1 / c**2 - 1) * grid**2).sqrt()
        expected = weight.reshape(10, -1).sum(dim=1) / weight.sum()
        found = torch.histc(z, bins=10, min=-1, max=1) / 40000
        torch.testing.assert_close(found, expected, atol=0.008, rtol=0)


@pytest.mark.parametrize("name", sorted(solids.SOLIDS))
def test_every_solid_is_upright_finite_and_varied(name: str) -> None:
    proportions = set()
    for seed in range(5):
        mesh = solids.solid(name, generator_for(seed))
        assert torch.isfinite(mesh).all()
        extent = mesh.reshape(-1, 3).amax(dim=0) - mesh.reshape(-1, 3).amin(dim=0)
        assert extent.min() > 0.1 * extent.max()
        proportions.add(round(float(extent[2] / extent[0]), 4))
    assert len(proportions) == 5


def test_view_noise_and_scale_are_as_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    shares, sigmas = [], []
    real_view, real_jitter = clouds.partial_view, clouds.jitter

    def view(cloud: torch.Tensor, points: int, generator: torch.Generator) -> torch.Tensor:
        shares.append(1 - points / cloud.shape[1])
        return real_view(cloud, points, generator)

    def jitter(cloud: torch.Tensor, generator: torch.Generator, *, sigma: float, limit: float) -> torch.Tensor:
        assert cloud.norm(dim=0).max() == pytest.approx(1, abs=1e-5)  # sigma counts in radii only if this holds
        moved = real_jitter(cloud, generator, sigma=sigma, limit=limit)
        sigmas.append(float((moved - cloud).std()))
        return moved

    monkeypatch.setattr(shapes_module.point_transforms, "partial_view", view)
    monkeypatch.setattr(shapes_module.point_transforms, "jitter", jitter)
    for x, _ in Shapes("train", points=256, train_size=200):
        assert x.norm(dim=0).max() == pytest.approx(1, abs=1e-5)
        assert x.mean(dim=1).abs().max() < 1e-5
        assert len(x.unique(dim=1).T) == 256  # no point comes twice
    assert 0.2 <= min(shares) < 0.22 < 0.43 < max(shares) <= 0.46
    assert 0.018 < min(sigmas) < 0.022 < 0.037 < max(sigmas) < 0.042


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning", "ignore:This DataLoader:UserWarning")
def test_samples_do_not_depend_on_order_or_size_or_process() -> None:
    whole = [x for x, _ in Shapes("train", points=64, train_size=60)]
    backwards = Shapes("train", points=64, train_size=500)
    for i in (59, 3, 40, 0):
        assert backwards[i][0].equal(whole[i])
    loader = DataLoader(Shapes("train", points=64, train_size=60), batch_size=7, num_workers=2)
    assert torch.cat([x for x, _ in loader]).equal(torch.stack(whole))
    line = "from zoo.datasets import load; print(load('shapes', 'train', points=64)[41][0].double().sum(1).tolist())"
    other = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(whole[41].double().sum(1).tolist())


def test_seed_split_and_points_give_other_samples() -> None:
    one = Shapes("train", points=64)[0][0]
    assert not one.equal(Shapes("test", points=64)[0][0])
    assert not one.equal(Shapes("train", points=64, seed=1)[0][0])
    assert not one.equal(Shapes("train", points=65)[0][0][:, :64])


def test_a_sample_handed_out_can_be_changed() -> None:
    data = Shapes("test", points=32)
    before = data[0][0].clone()
    data[0][0].zero_()
    assert data[0][0].equal(before)


def test_labels_are_balanced_and_right() -> None:
    data = Shapes("train", points=16)
    counts = Counter(data.label(i) for i in range(len(data)))
    assert len(data) == 4096
    assert len(Shapes("test", points=16)) == 1024
    assert len(counts) == data.num_classes == record("shapes").num_classes
    assert max(counts.values()) - min(counts.values()) <= 1
    assert [data[i][1] for i in range(40)] == list(range(20)) * 2
    name = data.classes[data[33][1]]
    again = shapes_module.make_cloud(name, 16, generator_for("shapes", 0, "train", 33, 16))
    assert data[33][0].equal(again)


def test_augmented_samples_are_the_plain_ones_scaled_moved_and_shuffled() -> None:
    plain, varied = Shapes("train", points=64), Shapes("train", points=64, augment=True)
    for i in range(3):
        # Per axis, sorting undoes the shuffle and an affine map of positive slope keeps the order.
        x, y = plain[i][0].sort(dim=1).values, varied[i][0].sort(dim=1).values
        slope = (y[:, -1] - y[:, 0]) / (x[:, -1] - x[:, 0])
        torch.testing.assert_close(y, y[:, :1] + slope[:, None] * (x - x[:, :1]), atol=1e-5, rtol=0)
        assert ((slope >= 2 / 3 - 1e-4) & (slope <= 3 / 2 + 1e-4)).all()


def test_no_simple_rule_tells_the_classes_apart() -> None:
    # Nearest class mean of the sorted distances from the centre, the points' spread and height: well above
    # chance (0.05), so the labels mean something, and far from solved.
    def features(split: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        data = Shapes(split, points=128, train_size=count, test_size=count)
        samples = [data[i] for i in range(count)]
        x = torch.stack([x for x, _ in samples])
        described = torch.cat([x.norm(dim=1).sort(dim=1).values[:, ::8], x.std(dim=2)], dim=1)
        return described, torch.tensor([y for _, y in samples])

    x, y = features("train", 600)
    test, truth = features("test", 300)
    means = torch.stack([x[y == c].mean(dim=0) for c in range(20)])
    accuracy = (torch.cdist(test, means).argmin(dim=1) == truth).float().mean()
    assert 0.15 < accuracy < 0.7


def test_load_and_its_errors() -> None:
    data = load("shapes", "test", points=100, seed=3)
    assert data[5][0].equal(Shapes("test", 100, seed=3)[5][0])
    assert data.sample_shape == data[5][0].shape == (3, 100)
    assert list_datasets() == sorted(list_datasets())
    for arguments, options, message in [
        (("shape", "test"), {}, "no data set is called 'shape'; did you mean shapes"),
        (("shapes", "val"), {}, "not 'val'"),
        (("shapes", "test"), {"points": 0}, "not 0"),
        (("shapes", "test"), {"size": 32}, "`size` does not apply; it takes `points`"),
    ]:
        with pytest.raises(ZooError, match=message):
            load(*arguments, **options)


def test_the_registry_needs_no_torch() -> None:
    line = "import sys, zoo.datasets as d; d.list_datasets(); d.record('shapes'); print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize("name", list_datasets())
def test_records_say_what_a_user_needs(name: str) -> None:
    known = record(name)
    assert known.name == name
    assert known.terms
    if known.kind is None:  # a folder of one's own says what it holds
        assert known.sample_shape == ()
        return
    assert known.sample_shape[0] == 3
    assert len(known.sample_shape) == {"points": 2, "images": 3}[known.kind]
    assert known.options[0] == {"points": "points", "images": "size"}[known.kind]
    assert known.sources == () or all(source.url.endswith(".zip") for source in known.sources)
