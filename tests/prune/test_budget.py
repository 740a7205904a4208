"""A budget for the whole network: costs against counting the network built, allocation against every combination."""

import copy
import itertools
import json
import math
from dataclasses import replace

import pytest
import torch
from exact_search import EXACT, exact
from torch import nn

from zoo.errors import ZooError
from zoo.evaluate import count
from zoo.models import ARCHS, build, groups_of, mlp
from zoo.prune import Budget, Options, Repair, Runtime, prune, recalibrate
from zoo.prune.budget import LatencyTable, allocate, find_eps, macs_of, measure_latency, parameters_of
from zoo.prune.engine import PruningSession
from zoo.prune.engine.running_mean import RunningMean
from zoo.prune.options import MethodConfig
from zoo.prune.path import allowed_widths
from zoo.prune.postprocess import distil

INPUTS = {"mlp": (10,), "dgcnn": (3, 48), "pointnet": (3, 48), "pointnet2": (3, 64), "vgg11": (3, 32, 32)}


@pytest.mark.parametrize("arch", ARCHS)
def test_costs_are_those_of_the_network_built_with_these_widths(arch):
    shape = INPUTS.get(arch, (3, 32, 32))
    model = build(arch, num_classes=5).eval()
    groups = groups_of(model)
    macs, parameters = macs_of(model, groups, shape), parameters_of(model, groups)
    some = {name: max(1, n * ((7 * i) % 5 + 3) // 8) for i, (name, n) in enumerate(model.widths.items())}
    for widths in ({}, some):
        counted = count(build(arch, num_classes=5, widths=widths), shape)
        assert macs(widths) == pytest.approx(counted.macs, rel=1e-12)
        assert parameters(widths) == pytest.approx(counted.parameters, rel=1e-12)
    name = next(iter(some))
    along = macs.cost_curve(name, some)
    for n in (1, some[name]):
        assert macs({**some, name: n}) - macs({**some, name: 0}) == pytest.approx(float(along[n]), rel=1e-9)


class Product:
    """A cost in which two groups meet in one layer, as in a chain of layers."""

    def __init__(self, sizes):
        self.sizes = sizes

    def __call__(self, widths):
        a, b, c = ({**self.sizes, **widths}[name] for name in "abc")
        return 3 * a + a * b + b * c + 2 * c

    def cost_curve(self, group, widths):
        n = torch.arange(self.sizes[group] + 1, dtype=torch.float64)
        return torch.tensor([self({**widths, group: int(k)}) - self({**widths, group: 0}) for k in n]).double()


def curve(N, seed):
    generator = torch.Generator().manual_seed(seed)
    fall = torch.rand(N, generator=generator, dtype=torch.float64).sort(descending=True).values
    values = torch.cat([fall.flip(0).cumsum(0).flip(0), torch.zeros(1, dtype=torch.float64)])
    values[0] = torch.inf
    return values


@pytest.mark.parametrize(("budget", "round_to"), [
    (Budget(macs=0.8), 1), (Budget(macs=0.5), 1), (Budget(macs=60.0), 1), (Budget(macs=0.6), 4),
    (Budget(macs=0.6), None), (Budget(macs=0.5, minimum=5), 1),
])  # fmt: skip
def test_the_allocation_is_within_the_budget_and_near_the_best_of_all_combinations(budget, round_to):
    sizes = {"a": 8, "b": 12, "c": 9}
    costs = Product(sizes)
    for seed in range(6):
        curves = {name: curve(N, 10 * seed + k) for k, (name, N) in enumerate(sizes.items())}
        found = allocate(curves, costs, budget, round_to)
        bound = budget.bound(costs({}))
        assert costs(found) <= bound
        allowed = [allowed_widths(N, round_to, budget.minimum) for N in sizes.values()]
        assert all(n in each for n, each in zip(found.values(), allowed, strict=True))
        combinations = (dict(zip(sizes, n, strict=True)) for n in itertools.product(*allowed))
        least = min(sum(float(curves[k][n]) for k, n in w.items()) for w in combinations if costs(w) <= bound)
        mine = sum(float(curves[name][n]) for name, n in found.items())
        assert mine <= 1.2 * least + 1e-9


def test_impossible_budgets_are_refused():
    sizes = {"a": 8, "b": 12, "c": 9}
    curves = {name: curve(N, 0) for name, N in sizes.items()}
    with pytest.raises(ZooError, match="narrowest network these groups allow takes"):
        allocate(curves, Product(sizes), Budget(macs=0.01))
    assert allocate(curves, Product(sizes), Budget(macs=1.0)) == sizes
    nan = float("nan")
    for bad in ({}, {"macs": 1.0, "parameters": 0.5}, {"macs": 0.0}, {"macs": nan}, {"macs": 0.5, "minimum": 0}):
        with pytest.raises(ZooError):
            Budget(**bad)


@pytest.fixture(scope="module")
def case():
    torch.manual_seed(0)
    model = build("vgg11", num_classes=4, widths={f"features.{i}": 16 for i in (0, 4, 8, 11, 15, 18, 22, 25)}).eval()
    return model, torch.randn(60, 3, 32, 32)


@pytest.mark.parametrize("method", ["repaired", "local", "l1", "gfs", "fpgm"])
def test_a_pruned_network_meets_its_budget(case, method):
    model, x = case
    even = Options(search=replace(EXACT, round_to=2))
    small, report = prune(model, (x, None), budget=Budget(macs=0.6, minimum=4), method=method, options=even)
    part = count(small, (3, 32, 32)).macs / count(model, (3, 32, 32)).macs
    assert 0.5 < part <= 0.6
    assert all(n >= 4 for n in small.widths.values()) or method == "local"  # convex weights may be best with fewer
    assert all(n % 2 == 0 for n in small.widths.values())
    assert report.budget["macs"] == 0.6
    assert "pruned" in report.table()
    halved, _ = prune(model, (x, None), budget=Budget(parameters=0.5), method=method, options=exact())
    assert count(halved, (3, 32, 32)).parameters <= 0.5 * count(model, (3, 32, 32)).parameters


def test_another_budget_reuses_the_sensitivity_curves_and_ends_as_without(case, tmp_path):
    model, x = case
    file = tmp_path / "cache.json"
    goal = {"method": "repaired", "options": exact()}
    kept = {**goal, "runtime": Runtime(cache_file=file)}
    _, first = prune(model, (x, None), budget=Budget(macs=0.8), **kept)
    assert first.reused == []
    again, second = prune(model, (x, None), budget=Budget(macs=0.6), **kept)
    assert second.reused == list(model.widths)
    assert "reused from an earlier run" in second.table()
    alone, _ = prune(model, (x, None), budget=Budget(macs=0.6), **goal)
    for name, value in alone.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    file.write_text(json.dumps({"fingerprint": "of another network", "values": {"features.0": [0.0]}}))
    _, fresh = prune(model, (x, None), budget=Budget(macs=0.6), **kept)
    assert fresh.reused == []


def test_another_eps_reuses_the_fisher_matrices_and_ends_as_without(case, tmp_path, monkeypatch):
    model, x = case
    computed = []
    fresh = PruningSession.fisher_matrices
    monkeypatch.setattr(PruningSession, "fisher_matrices", lambda session: computed.append(1) or fresh(session))
    options = exact()
    kept = {"method": "repaired", "options": options, "runtime": Runtime(cache_file=tmp_path / "cache.json")}
    prune(model, (x, None), eps=0.02, **kept)
    again, _ = prune(model, (x, None), eps=0.1, **kept)
    assert len(computed) == 1
    alone, _ = prune(model, (x, None), eps=0.1, method="repaired", options=options)
    assert again.widths == alone.widths
    for name, value in alone.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    other = copy.deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).mul_(0.9)
    prune(other, (x, None), eps=0.1, **kept)
    prune(other, (x, None), eps=0.1, seed=1, **kept)
    prune(model, (x.flip(0), None), eps=0.1, **kept)
    assert len(computed) == 5  # `alone`, and anew for another network, seed, samples
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    prune(model, (x.flip(0), None), eps=0.1, **kept)
    assert len(computed) == 6  # a damaged file counts as none


@pytest.mark.parametrize("repair", [None, Repair()])
def test_each_eps_that_is_tried_starts_from_the_unpruned_network(case, repair):
    """One session serves them all: gates and reconstructed weights of the pass before are undone."""
    model, x = case
    options = exact(repair=repair)
    small, report = prune(model, (x, None), budget=Budget(macs=0.5), method="uniform", options=options)
    alone, _ = prune(model, (x, None), eps=report.eps, method="uniform", options=options)
    for name, value in alone.state_dict().items():
        assert torch.equal(value, small.state_dict()[name])


def test_a_running_mean_is_surely_above_eps_by_four_standard_errors():
    drawn = torch.randn(96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sums = RunningMean(len(drawn))
    for batch in drawn.split(32):
        sums.add(len(batch), float(batch.sum()), float(batch.square().sum()))
        seen = drawn[: int(sums.count)]
        error = float(seen.std()) * math.sqrt(1 / len(seen) - 1 / len(drawn))
        bound = float(seen.mean()) - 4 * error
        assert sums.surely_above(bound - 1e-9) is not sums.complete
        assert not sums.surely_above(bound + 1e-9)
    assert sums.complete
    assert sums.mean == pytest.approx(float(drawn.mean()))
    sums.add(1, math.nan, math.nan)
    assert sums.surely_above(1e9)
    assert sums.mean == math.inf


def test_a_budget_and_the_methods_it_goes_with(case):
    model, x = case
    with pytest.raises(ZooError, match="leave `minimum` at 1"):
        prune(model, (x, None), budget=Budget(macs=0.5, minimum=8), method="combined")
    with pytest.raises(ZooError, match="Give one goal"):
        prune(model, (x, None), budget=Budget(macs=0.5), eps=0.1, method="local")


@pytest.mark.parametrize("method", [pytest.param("combined", marks=pytest.mark.slow), "uniform"])
def test_a_method_that_goes_by_eps_meets_a_budget_with_one_eps(case, method, tmp_path):
    model, x = case
    runtime = Runtime(resume_file=tmp_path / "journal")
    goal = {"method": method, "options": exact()}
    small, report = prune(model, (x, None), budget=Budget(macs=0.5), runtime=runtime, **goal)
    sample = tuple(x.shape[1:])
    whole, macs = count(model, sample).macs, count(small, sample).macs
    assert macs <= 0.5 * whole
    assert report.budget["before"] == whole
    assert report.budget["after"] == macs
    again, _ = prune(model, (x, None), eps=report.eps, **goal)
    for tensor, other in zip(small.state_dict().values(), again.state_dict().values(), strict=True):
        assert tensor.equal(other)
    tried = {float(file.name.partition("eps-")[2]): json.loads(file.read_text()) for file in tmp_path.iterdir()}
    costs = macs_of(model, groups_of(model), x[:1])
    cost = {
        eps: costs({row["report"]["name"]: row["report"]["after"] for row in content["groups"]})
        for eps, content in tried.items()
    }
    assert macs == max(value for value in cost.values() if value <= 0.5 * whole), "a larger one was tried"


@pytest.mark.slow
def test_another_budget_reuses_what_an_eps_gave(case, tmp_path, monkeypatch):
    model, x = case
    runtime = Runtime(cache_file=tmp_path / "cache.json")
    goal = {"budget": Budget(macs=0.5), "method": "combined", "options": exact(), "runtime": runtime}
    _, report = prune(model, (x, None), **goal)
    seen = []
    real = find_eps
    monkeypatch.setattr(
        "zoo.prune.pruner.find_eps",
        lambda cost, bound, cached: real(lambda eps: seen.append(eps) or cost(eps), bound, cached),
    )
    small, again = prune(model, (x, None), **goal)
    assert seen == []
    assert again.eps == report.eps
    assert small.widths == {row.name: row.after for row in report.groups}


def test_a_budget_of_the_whole_leaves_it_whole(case):
    model, x = case
    whole = count(model, tuple(x.shape[1:])).macs
    for macs in (1.0, 2.0 * whole):
        small, report = prune(model, (x, None), budget=Budget(macs=macs), method="combined", options=exact())
        assert small.widths == model.widths
        assert report.budget["after"] == report.budget["before"] == whole


def test_the_eps_found_is_one_that_a_fine_grid_finds():
    """Costs that fall with eps, in steps, with bumps; and those that no eps meets, or every eps."""
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        steps = torch.rand(400, generator=generator, dtype=torch.float64).cumsum(0).flip(0)
        steps = steps + torch.randn(400, generator=generator, dtype=torch.float64)

        def cost(eps, steps=steps):
            place = (math.log10(eps) + 6) / 8 * 399  # eps from 1e-6 to 100
            return float(steps[min(max(round(place), 0), 399)])

        bound = float(steps[20 + 12 * seed])
        grid = [cost(10 ** (k / 100)) for k in range(-600, 200)]
        found = cost(find_eps(cost, bound))
        best = max(value for value in grid if value <= bound)
        assert found <= bound
        assert found >= min(0.95 * bound, best) or bound - found < 8, seed
    assert find_eps(lambda eps: 1.0, 1.0) == 0.02
    tried = []
    assert find_eps(lambda eps: tried.append(eps) or 1.0, 3.0) == min(tried), "the smallest of those worth the same"
    assert len(tried) == 4
    tried.clear()
    assert find_eps(lambda eps: tried.append(eps) or (0.1 if eps >= 0.004 else 0.45), 0.5) < 0.004
    tried.clear()  # two costs and none between them
    assert 0.13 <= find_eps(lambda eps: tried.append(eps) or (0.7 if eps < 0.13 else 0.4), 0.6) < 0.135
    assert len(tried) < 12
    with pytest.raises(ZooError, match="No eps up to"):
        find_eps(lambda eps: 2.0, 1.0)


@pytest.mark.parametrize("bound", [0.9, 2.0, 5.0])
def test_costs_of_an_earlier_search_do_not_change_the_result(bound):
    """Its costs are not computed again, and the result is that without them."""
    evaluated = []

    def cost(eps):
        evaluated.append(eps)
        return 1 / (0.1 + eps) + 0.3 * math.sin(40 * math.log(eps))

    alone = find_eps(cost, bound)
    for other in (0.7, 1.5, 4.0, 7.0):
        evaluated.clear()
        find_eps(cost, other)
        cached = {eps: cost(eps) for eps in tuple(evaluated)}
        evaluated.clear()
        assert find_eps(cost, bound, cached) == alone
        assert not cached.keys() & set(evaluated)


def test_time_is_a_table_for_each_group_and_more_neurons_are_never_faster(case):
    model, x = case
    with PruningSession(model, x, None, MethodConfig(batch_size=32)) as space:
        table = measure_latency(space, space.groups[:2])
    assert table({}) == table.unpruned > 0
    for group in space.groups[:2]:
        assert len(table.tables[group.name]) == group.size + 1
        assert bool((table.tables[group.name].diff() >= 0).all())
    fake = LatencyTable(10.0, {"a": torch.tensor([1.0, 2.0, 4.0]), "b": torch.tensor([0.5, 3.0])})
    assert fake({"a": 1}) == 8.0
    assert fake({"a": 1, "b": 0}) == 5.5


def test_a_time_is_met_by_the_table(case, monkeypatch):
    """A device on which the last convolution alone takes time, by steps of eight neurons."""
    model, x = case
    steps = torch.tensor([float(-(-n // 8)) for n in range(17)])
    tables = {name: steps if name == "features.25" else 0 * steps for name in model.widths}
    monkeypatch.setattr("zoo.prune.budget.costs.measure_latency", lambda *_, **__: LatencyTable(10.0, tables))
    small, _ = prune(model, (x, None), budget=Budget(milliseconds=9.0), method="l1", options=exact())
    assert small.widths == {**model.widths, "features.25": 8}


def test_recalibrated_statistics_are_the_mean_over_batches_of_what_the_norm_sees():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
    model = nn.Sequential(conv, norm).eval()
    inputs = torch.randn(32, 3, 8, 8)
    norm.running_mean.fill_(7.0)
    recalibrate(model, inputs, batch_size=15)
    y = [conv(batch).detach() for batch in inputs.split([11, 11, 10])]  # even parts: none of two samples
    torch.testing.assert_close(norm.running_mean, torch.stack([each.mean((0, 2, 3)) for each in y]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([each.var((0, 2, 3)) for each in y]).mean(0))
    assert not norm.training
    assert norm.momentum == 0.1


def test_the_last_steps_are_reported_apart_and_each_lowers_the_discrepancy(case):
    model, x = case
    options = exact(repair=Repair(recalibrate=True, distil_epochs=3))
    small, report = prune(model, (x, None), budget=Budget(macs=0.5), method="repaired", options=options)
    assert [step.name for step in report.steps] == ["pruned", "batch norms recalibrated", "distilled"]
    assert report.steps[2].discrepancy < report.steps[1].discrepancy
    assert not small.training
    again, _ = prune(model, (x, None), budget=Budget(macs=0.5), method="repaired", options=options)
    assert all(torch.equal(a, b) for a, b in zip(small.state_dict().values(), again.state_dict().values(), strict=True))


def test_distillation_that_diverges_leaves_the_network_as_it_was():
    torch.manual_seed(0)
    model, teacher = mlp(in_features=4, num_classes=3), mlp(in_features=4, num_classes=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ZooError, match="Distillation diverged"):
        distil(model, teacher, torch.randn(64, 4), epochs=3, seed=0, lr=1e38)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_repaired_run_that_goes_on_ends_with_the_same_network(case, tmp_path):
    """As killed after the third group: the resume file holds choices, the readers are solved again."""
    model, x = case
    runtime = Runtime(resume_file=tmp_path / "journal")
    goal = {"eps": 0.002, "method": "repaired", "options": exact(), "runtime": runtime}
    whole, _ = prune(model, (x, None), **goal)
    content = json.loads((tmp_path / "journal").read_text())
    assert len(content["groups"]) == 8
    content["groups"] = content["groups"][:3]
    (tmp_path / "journal").write_text(json.dumps(content))
    again, report = prune(model, (x, None), **goal)
    assert any(group.winner == "repaired" for group in report.groups[:3])
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
