"""Which numbers of neurons a group may keep: the smallest allowed one that passes, against all of them; in every
method, with an eps and with a budget."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from exact_search import EXACT
from torch import nn

from zoo.errors import ZooError
from zoo.models import NeuronGroup, Reader, build
from zoo.prune import METHODS, Budget, Options, PruningPath, Search, get_method, prune
from zoo.prune.path import FILLER, allowed_widths


@pytest.mark.parametrize(("size", "round_to", "expected"), [
    (3, None, [3]), (4, None, [4]), (5, None, [4, 5]), (20, None, [4, 8, 12, 16, 20]),
    (31, None, [4, 8, 12, 16, 20, 24, 28, 31]), (32, None, [8, 16, 24, 32]), (33, None, [8, 16, 24, 32, 33]),
    (64, None, [8, 16, 24, 32, 40, 48, 56, 64]), (6, 1, [1, 2, 3, 4, 5, 6]), (20, 16, [16, 20]), (20, 32, [20]),
])  # fmt: skip
def test_multiples_or_all_are_allowed(size, round_to, expected):
    assert allowed_widths(size, round_to) == expected
    assert allowed_widths(size, round_to, 6) == [n for n in expected if n >= 6 or n == size]


@pytest.mark.parametrize("wrong", [0, -8, 2.5])
def test_what_is_rounded_to_is_a_number_of_neurons(wrong):
    with pytest.raises(ZooError, match=f"`round_to` is a number of neurons from 1 up; got {wrong}"):
        Search(round_to=wrong)


class Apart(nn.Module):
    """N neurons, each with an output of its own, whose share falls from the first to the last."""

    def __init__(self, size):
        super().__init__()
        self.first, self.second = nn.Linear(size, size, bias=False), nn.Linear(size, size, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.diag(torch.linspace(2, 1, size)))
            self.second.weight.copy_(torch.eye(size))
        self.double()

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))

    def neuron_groups(self):
        return [NeuronGroup("g", (self.first,), (Reader.of(self.second, self.first.out_features),))]


@pytest.mark.parametrize("round_to", [None, 1, 3])
@pytest.mark.parametrize("size", [3, 4, 20, 31, 32, 64])
def test_the_smallest_allowed_number_that_passes_is_kept(size, round_to):
    """The gap of keeping the first n is known: the mean of what the others give, squared, and a standard error."""
    x = torch.randn(70, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    held = x[torch.randperm(70, generator=torch.Generator().manual_seed(0))[:18]]  # round(0.25 x 70)
    shares = (torch.relu(held) * torch.linspace(2, 1, size)).square()
    judged = {}
    for n in range(1, size + 1):
        gaps = shares[:, n:].sum(1)
        judged[n] = float(gaps.mean()) + float(gaps.std()) / math.sqrt(len(gaps))
    allowed = allowed_widths(size, round_to)
    assert all(judged[a] > judged[b] for a, b in itertools.pairwise(allowed)), "or this test says nothing"
    options = Options(search=Search(round_to=round_to), discrepancy="squared_error", batch_size=8)
    tried = allowed if len(allowed) < 12 else allowed[:: len(allowed) // 8]
    for eps in (factor * judged[n] for n in tried for factor in (1 - 1e-9, 1 + 1e-9)):
        expected = min(n for n in allowed if judged[n] < eps or n == size)
        small, report = prune(Apart(size), (x, None), eps=max(eps, 0.0), method="l1", options=options)
        (group,) = report.groups
        assert group.after == small.first.out_features == expected
        assert group.winner == ("whole" if expected == size else "l1")
        assert group.gap == pytest.approx(float(shares[:, expected:].sum(1).mean()), rel=1e-6)


SIZES = {0: 32, 4: 31, 8: 20, 11: 40, 15: 33, 18: 4, 22: 36, 25: 64}
WIDTHS = {f"features.{i}": size for i, size in SIZES.items()}


@pytest.fixture(scope="module")
def images():
    torch.manual_seed(0)
    model = build("vgg11", num_classes=4, widths=WIDTHS).eval()
    x = torch.randn(48, 3, 32, 32)
    with torch.no_grad():
        return model, (x, model(x).argmax(1))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("round_to", [None, 5])
def test_every_method_keeps_allowed_numbers_for_an_eps(images, method, round_to):
    model, data = images
    options = Options(search=Search(round_to=round_to))
    small, report = prune(model, data, eps=0.01, method=method, options=options)
    assert sum(small.widths.values()) < sum(WIDTHS.values())
    for group in report.groups:
        allowed = allowed_widths(WIDTHS[group.name], round_to)
        assert {group.after, small.widths[group.name]} <= {*allowed}
        assert {group.local, group.global_} <= {None, *allowed}


@pytest.mark.parametrize("method", [
    pytest.param(name, marks=[pytest.mark.slow] * (name in ("combined", "global"))) for name in METHODS
])  # fmt: skip
def test_every_method_keeps_allowed_numbers_for_a_budget(images, method):
    model, data = images
    small, report = prune(model, data, budget=Budget(macs=0.5), method=method)
    assert report.budget["after"] <= report.budget["bound"]
    assert sum(small.widths.values()) < sum(WIDTHS.values())
    assert all(n in allowed_widths(WIDTHS[name], None) for name, n in small.widths.items())
    if get_method(method).allocates:
        small, _ = prune(model, data, budget=Budget(macs=0.5, minimum=16), method=method)
        assert all(n in allowed_widths(WIDTHS[name], None, 16) for name, n in small.widths.items()) or method == "local"


@pytest.mark.parametrize("method", ["local", "combined"])
def test_widths_that_are_given_are_not_rounded(images, method):
    model, data = images
    small, _ = prune(model, data, widths={"features.0": 11, "features.25": 37}, method=method)
    assert 1 <= small.widths["features.0"] <= 11
    assert 1 <= small.widths["features.25"] <= 37
    with_l1, _ = prune(model, data, widths={"features.0": 11}, method="l1")
    assert with_l1.widths == {**WIDTHS, "features.0": 11}


def test_neurons_that_the_best_scales_leave_out_fill_a_number_up():
    """Those that come next on the path, the largest first; nothing where the number is allowed as it is."""
    rows = torch.zeros(6, 6, dtype=torch.float64)
    rows[0, 2] = 6
    rows[1] = rows[2] = torch.tensor([3.0, 0, 3, 0, 0, 0])
    rows[3] = torch.tensor([2.0, 0, 2, 0, 1, 1.5])
    rows[4] = torch.tensor([2.0, 1, 1, 0, 1, 1])
    rows[5] = 1
    path = PruningPath(rows)
    assert path.filled(3, [3, 6]).tolist() == [3, 0, 3, 0, 0, FILLER]
    assert path.filled(3, [4, 6]).tolist() == [3, 0, 3, 0, FILLER, FILLER]
    assert path.filled(3, [5, 6]).tolist() == [3, FILLER, 3, 0, FILLER, FILLER]
    assert path.filled(3, [6]).tolist() == [3, FILLER, 3, FILLER, FILLER, FILLER]
    for n in range(1, 7):
        assert torch.equal(path.filled(n, range(1, 7)), path.scale(n))
    assert path.filled(4, [2, 4, 6]).tolist() == rows[3].tolist()
    assert path.filled(3, [2, 4, 6]).tolist() == rows[2].tolist(), "fewer is fine where it is allowed"
    dropped = PruningPath(rows, lambda scale: torch.where(scale == 1.5, 0.0, scale))
    assert dropped.filled(4, [2, 4, 6]).tolist() == [2, 0, 2, 0, 1, FILLER]
    assert rows[1].tolist() == [3, 0, 3, 0, 0, 0], "the path is not changed"


def test_rounding_to_one_is_the_search_without_rounding(images):
    model, data = images
    options = Options(search=replace(EXACT, refine=False))
    small, report = prune(model, data, eps=0.01, method="global", options=options)
    assert any(n not in allowed_widths(WIDTHS[name], None) for name, n in small.widths.items())
    assert report.held_out == 0
