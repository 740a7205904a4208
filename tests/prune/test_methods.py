"""The registry of pruning methods: what each declares, and a method registered from outside the package."""

import pytest
import torch
from classifier import trained
from exact_search import exact

import zoo.prune
from zoo.errors import ZooError
from zoo.prune import METHODS, PLAIN, Budget, PruningPath, Repair, get_method, prune, register_method
from zoo.prune.search import registry


@pytest.fixture(scope="module")
def case():
    return trained()


@pytest.fixture
def largest_mean_activation():
    """A criterion of a user's own, by what the group's neurons give on the pruning data."""

    @register_method("activation")
    def activation(evaluator, generator):
        assert isinstance(generator, torch.Generator)
        means = []
        module = evaluator.group.readers[0].module
        handle = module.register_forward_pre_hook(lambda module, inputs: means.append(inputs[0].abs().mean(0)))
        for state in evaluator.activations.states():
            evaluator.activations.run_from(state)
        handle.remove()
        return PruningPath.from_ranking(torch.stack(means).mean(0).argsort(descending=True))

    yield activation
    del registry._METHODS["activation"]


def test_a_criterion_registered_outside_the_package_is_a_method_like_any_other(case, largest_mean_activation):
    model, (x, y) = case
    assert "activation" in zoo.prune.METHODS
    small, report = prune(model, (x, y), widths={"hidden1": 12}, method="activation")
    assert (report.groups[0].winner, report.groups[0].after) == ("activation", 12)
    with torch.no_grad():
        largest = torch.relu(model.hidden1(x)).mean(0).argsort(descending=True)[:12].sort().values
    torch.testing.assert_close(small.hidden1.weight, model.hidden1.weight[largest])
    assert prune(model, (x, y), eps=0.05, method="activation", options=exact())[1].groups[0].gap < 0.05
    options = exact(repair=Repair())
    _, report = prune(model, (x, y), budget=Budget(macs=0.5), method="activation", options=options)
    assert report.budget["after"] <= report.budget["bound"]


def test_a_name_is_given_once(largest_mean_activation):
    with pytest.raises(ZooError, match="There is a pruning method 'activation' already"):
        register_method("activation")(largest_mean_activation)


def test_methods_are_listed_by_name_and_an_unknown_one_gets_near_names():
    assert tuple(sorted(METHODS)) == METHODS
    assert {"combined", "fpgm", "gfs", "global", "l1", "local", "random", "repaired", "taylor", "uniform"} <= {*METHODS}
    with pytest.raises(ZooError, match="no pruning method 'fpmg'; did you mean fpgm"):
        get_method("fpmg")


def test_each_method_meets_a_budget_its_own_way():
    by_one_eps = {name for name in METHODS if not get_method(name).allocates}
    assert by_one_eps == {"combined", "global", "uniform"}
    assert zoo.prune.default_repair("repaired") == Repair()
    assert zoo.prune.default_repair("l1") == PLAIN


def test_random_neurons_are_drawn_by_the_seed(case):
    model, data = case

    def kept(seed):
        small, _ = prune(model, data, widths={"hidden1": 12}, method="random", seed=seed)
        return [row.tolist() for row in small.hidden1.weight]

    rows = [row.tolist() for row in model.hidden1.weight]
    assert kept(0) == kept(0) != kept(1)
    assert all(row in rows for row in kept(0))
