"""Networks, data and settings that pruning meets but rarely: the right result, or one sentence."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from exact_search import exact
from torch import nn

from zoo.errors import ZooError
from zoo.models import EdgeConv, NeuronGroup, Reader, groups_of
from zoo.prune import Budget, Repair, Runtime, prune
from zoo.prune.budget.latency_table import LatencyTable
from zoo.prune.postprocess import distil
from zoo.prune.reconstruct import ReaderReconstruction
from zoo.prune.reconstruct.least_squares import solve
from zoo.prune.statistics import ReaderMoments, fisher_matrices


class Net(nn.Module):
    """Two groups, the second behind a batch norm; `before` comes first, `act` is a part that no state knows of."""

    def __init__(self, before=None, act=torch.relu):
        super().__init__()
        self.before, self.act = before or nn.Identity(), act
        self.a, self.b, self.norm, self.o = nn.Linear(8, 16), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.Linear(12, 4)

    def forward(self, x):
        x = self.act(self.a(self.before(x)))
        return self.o(torch.relu(self.norm(self.b(x))))

    @property
    def widths(self):
        return {"a": self.a.out_features, "b": self.b.out_features}

    def neuron_groups(self):
        return [
            NeuronGroup("a", (self.a,), (Reader.of(self.b, self.a.out_features),)),
            NeuronGroup("b", (self.b, self.norm), (Reader.of(self.o, self.b.out_features),)),
        ]


def net(**how):
    torch.manual_seed(0)
    return Net(**how).eval()


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_first_order_importance_sees_every_sample():
    x, y = drawn(300, 8), torch.arange(300) % 4
    small, _ = prune(net(), (x, y), widths={"a": 8, "b": 6}, method="taylor")
    assert small.widths == {"a": 8, "b": 6}


def silent(model, what):
    with torch.no_grad():
        if what == "no neuron fires":
            model.a.weight.zero_()
            model.a.bias.fill_(-1)
        elif what == "neurons are constant":
            model.a.weight.zero_()
            model.a.bias.fill_(1)
        else:
            model.b.weight.zero_()


@pytest.mark.parametrize("method", ["local", "gfs", "repaired", "l1"])
@pytest.mark.parametrize("weighting", ["none", "fisher"])
@pytest.mark.parametrize("what", ["no neuron fires", "neurons are constant", "nobody listens"])
def test_a_budget_where_groups_do_nothing(method, weighting, what):
    model = net()
    silent(model, what)
    x = drawn(100, 8)
    repair = Repair(update_weights=method == "repaired", weighting=weighting)
    small, report = prune(model, (x, None), budget=Budget(macs=0.6), method=method, options=exact(repair=repair))
    if method == "repaired":  # all behind the group is constant too, and constants have a place
        torch.testing.assert_close(small(x), model(x), rtol=1e-4, atol=1e-5)
    assert report.budget["after"] <= report.budget["bound"] < report.budget["before"]


@pytest.mark.parametrize("samples", [1, 2, 3, 6])
@pytest.mark.parametrize("method", ["local", "repaired"])
def test_few_samples_are_enough_for_a_budget(samples, method):
    small, _ = prune(net(), (drawn(samples, 8), None), budget=Budget(macs=0.6), method=method, options=exact())
    assert sum(small.widths.values()) < 28


def test_statistics_that_are_not_finite_are_said_and_half_precision_is_squared_in_float32():
    model = net(act=lambda x: torch.relu(x) * 1e20)
    with torch.no_grad():
        model.b.weight.mul_(1e-20)
    for method in ("repaired", "local"):
        with pytest.raises(ZooError, match="reads group a sees values that are not finite, or too large"):
            prune(model, (drawn(40, 8), None), budget=Budget(parameters=0.6), method=method)
    half, x = net().half(), (100 * drawn(100, 8)).half()
    for method in ("repaired", "local"):
        small, _ = prune(half, (x, None), budget=Budget(macs=0.6), method=method, options=exact())
        assert next(small.parameters()).dtype == torch.float16
        assert bool(torch.isfinite(small(x)).all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_budget_of_macs_in_another_precision(dtype):
    data = drawn(40, 8).to(dtype), None
    small, _ = prune(net().to(dtype), data, budget=Budget(macs=0.6), method="repaired", options=exact())
    assert sum(small.widths.values()) < 28


class Looked(nn.Module):
    """Words, and a part that takes no gradient."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 8)

    @torch.no_grad()
    def forward(self, x):
        return self.words(x).mean(1)


@pytest.mark.parametrize("goal", [{"budget": Budget(macs=0.6)}, {"eps": 0.01}])
def test_inputs_that_have_no_gradient(goal):
    words = torch.randint(0, 11, (64, 5), generator=torch.Generator().manual_seed(0))
    model = net(before=Looked())
    small, _ = prune(model, (words, None), method="repaired", options=exact(), **goal)
    assert small(words).shape == (64, 4)


class Normed(nn.Module):
    """A reader without a bias in front of a norm."""

    def __init__(self, norm):
        super().__init__()
        self.a, self.b, self.norm, self.o = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3, bias=False), norm, nn.Linear(5, 4)

    def forward(self, x):
        return self.o(self.norm(self.b(torch.relu(self.a(x)))).relu().mean((2, 3)))

    def neuron_groups(self):
        return [NeuronGroup("a", (self.a,), (Reader.of(self.b, self.a.out_channels, norm=self.norm),))]


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 5), nn.BatchNorm2d(5, track_running_stats=False), nn.BatchNorm2d(5)])
def test_a_constant_goes_where_there_is_a_running_mean_and_nowhere_else(norm):
    torch.manual_seed(0)
    model = Normed(norm).eval()
    small, _ = prune(model, (drawn(20, 3, 12, 12), None), widths={"a": 3}, method="repaired")
    assert small.a.out_channels == 3
    if getattr(norm, "running_mean", None) is not None:
        assert bool((small.norm.running_mean != 0).all())


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_columns_far_from_zero_are_solved_as_well(offset):
    """A constant of a thousand deviations in float32: 7 digits are not enough for the difference of two squares."""
    phi = drawn(400, 6)
    phi[:, 5] = phi[:, :5] @ drawn(5) + 0.01 * drawn(400, seed=2)
    phi += offset
    layer = nn.Linear(6, 3)
    moments = ReaderMoments(Reader.of(layer, 6))
    for part in phi.split(100):
        moments.start_batch(len(part))
        moments.add(part)
    W, kept = layer.weight.detach().double(), torch.arange(5)
    change, shift = solve(moments.all, W, kept, 1e-7)
    y = phi.double() @ W.t()
    error = (phi.double() @ (W + change).t() + shift - y).square().mean()
    design = torch.cat([phi[:, :5].double(), torch.ones(400, 1, dtype=torch.float64)], 1)
    best = (design @ torch.linalg.lstsq(design, y).solution - y).square().mean()
    assert float(error) < 1.05 * float(best)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_column_that_is_constant_takes_over_nothing_and_is_not_chosen(dtype):
    """Up to rounding its variance is 0, and what is solved must not be divided by that."""
    phi = drawn(41, 4).to(dtype)
    phi[:, 0] = 0.1  # no binary number: its mean is another one
    layer = nn.Linear(4, 3, bias=True).to(dtype)
    moments = ReaderMoments(Reader.of(layer, 4))
    for part in phi.split(8):
        moments.start_batch(len(part))
        moments.add(part)
    change, shift = solve(moments.all, layer.weight.detach().double(), torch.tensor([0]), 1e-7)
    assert float(change[:, 0].abs().max()) < 1
    y = phi[:, 1:].double() @ layer.weight.detach()[:, 1:].double().t()
    torch.testing.assert_close(change[:, 0] * 0.1 + shift, y.mean(0), rtol=1e-3, atol=1e-4)
    group = NeuronGroup("a", (nn.Linear(2, 4).to(dtype),), (Reader.of(layer, 4),))
    reconstruction = ReaderReconstruction(group, [moments], None, 41)
    for direction in ("forward", "backward"):
        path = reconstruction.path(direction)
        assert all(float(path.scale(n)[0]) == 0 for n in (1, 2, 3)), direction


def test_rows_belong_to_samples_however_a_reader_gets_them():
    """(b, m, C), (b m, C), and twice (b, C): the same fifth of the samples is held out."""
    x, layer = drawn(10, 4, 6), nn.Linear(6, 3)
    found = [ReaderMoments(Reader.of(layer, 6)) for _ in range(3)]
    for part in x.split(3):
        for moments in found:
            moments.start_batch(len(part))
        found[0].add(part)
        found[1].add(part.flatten(0, 1))
        for i in range(4):
            found[2].add(part[:, i])
    for moments in found[1:]:
        torch.testing.assert_close(moments.val.raw(), found[0].val.raw(), rtol=1e-4, atol=1e-5)
        assert moments.val.rows == 2 * 4


class Clouds(nn.Module):
    """An EdgeConv with one neighbour, so that every point is one edge."""

    def __init__(self):
        super().__init__()
        self.a, self.e, self.o = nn.Conv1d(3, 4, 1), EdgeConv(4, 6, k=1), nn.Linear(6, 3)

    def forward(self, x):
        return self.o(self.e(self.a(x)).mean(2))

    def neuron_groups(self):
        return [NeuronGroup("a", (self.a,), (Reader.of(self.e, 4, norm=self.e.bn),), scale_on_writer=True)]


@pytest.mark.parametrize("bias", [-3.0, 0.0, 3.0])
def test_gamma_behind_an_edge_convolution_is_that_of_its_linear_layer(bias):
    torch.manual_seed(0)
    model = Clouds().eval()
    model.e.bn.bias.data.fill_(bias)
    x, y = drawn(50, 3, 5), torch.arange(50) % 3
    (gamma,) = fisher_matrices(
        model, groups_of(model), [x], torch.Generator(), labels=[y], label_weight=1.0
    )["a"]  # fmt: skip
    z = model.e.conv(model.e.edges(model.a(x))).detach().requires_grad_()
    logits = model.o(F.leaky_relu(model.e.bn(z), model.e.slope).amax(3).mean(2))
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), z)
    rows = gradient.permute(0, 2, 3, 1).flatten(0, 2).double()
    torch.testing.assert_close(gamma, rows.t() @ rows / 50, rtol=1e-4, atol=1e-9)


def test_a_killed_run_keeps_the_widths_that_were_decided_on(tmp_path, monkeypatch):
    """A table of latencies that is measured again would give others; the time of an earlier process is not counted."""
    model, x, file = net(), drawn(100, 8), tmp_path / "journal"
    steps = {name: torch.arange(n + 1).double() for name, n in (("a", 16), ("b", 12))}

    def table(a, b):
        costs = LatencyTable(28.0, {"a": a * steps["a"], "b": b * steps["b"]})
        monkeypatch.setattr("zoo.prune.budget.costs.measure_latency", lambda *_, **__: costs)

    def go():
        goal = {"budget": Budget(milliseconds=0.7), "method": "repaired", "options": exact()}
        return prune(model, (x, None), runtime=Runtime(resume_file=file), **goal)

    table(1.0, 1.0)
    first, _ = go()
    content = json.loads(file.read_text())
    content["groups"] = content["groups"][:1]
    content["groups"][0]["report"]["seconds"] = 1000.0
    file.write_text(json.dumps(content))
    table(0.1, 2.0)
    again, report = go()
    assert again.widths == first.widths
    assert same(again, first)
    assert report.steps[0].seconds >= 0


def test_the_same_state_with_another_forward_reuses_nothing(tmp_path):
    x, cache, resume_file = drawn(100, 8), tmp_path / "known", tmp_path / "journal"
    goal = {"budget": Budget(macs=0.6), "method": "repaired", "options": exact()}
    prune(net(), (x, None), **goal, runtime=Runtime(cache_file=cache, resume_file=resume_file))
    _, report = prune(net(), (x, None), **goal, runtime=Runtime(cache_file=cache))
    assert report.reused == ["a", "b"]
    _, report = prune(net(act=F.silu), (x, None), **goal, runtime=Runtime(cache_file=cache))
    assert report.reused == []
    with pytest.raises(ZooError, match="belongs to a run with another network"):
        prune(net(act=F.silu), (x, None), **goal, runtime=Runtime(resume_file=resume_file))


def test_curves_of_another_length_are_computed_again(tmp_path):
    model, x, cache = net(), drawn(100, 8), tmp_path / "known"
    goal = {"budget": Budget(macs=0.6), "method": "repaired", "options": exact()}
    first, _ = prune(model, (x, None), **goal, runtime=Runtime(cache_file=cache))
    content = json.loads(cache.read_text())
    content["values"]["a"] = content["values"]["a"][:5]
    content["values"]["b"] = []
    cache.write_text(json.dumps(content))
    again, _ = prune(model, (x, None), **goal, runtime=Runtime(cache_file=cache))
    assert same(first, again)


def test_distillation_follows_the_discrepancy_and_leaves_the_network_as_it_found_it():
    torch.manual_seed(0)
    model, teacher = nn.Linear(6, 1), nn.Linear(6, 1)
    model.bias.requires_grad_(False)
    x = drawn(64, 6)
    before = F.mse_loss(model(x), teacher(x))
    with torch.no_grad():
        distil(model, teacher, x, epochs=20, seed=0, discrepancy="squared_error")
    assert F.mse_loss(model(x), teacher(x)) < before
    assert model.weight.requires_grad
    assert not model.bias.requires_grad
    assert model.weight.grad is None


def tied():
    model = net()
    model.b.bias = model.norm.bias
    return model


PLAIN_NET = {"budget": Budget(macs=0.6), "method": "repaired"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "local", "repair": Repair(selection="forward")}, "`selection` and `swap` are of method repaired"),
        ({"groups": []}, "No group is left to prune"),
        ({"model": tied, "budget": Budget(parameters=0.6)}, "shares a parameter between modules"),
        ({"x": drawn(1, 8), "repair": Repair(recalibrate=True)}, "from 2 samples at least"),
        ({"model": Clouds, "x": drawn(1, 3, 9), "repair": Repair(recalibrate=True)}, "from 2 samples at least"),
        ({"model": lambda: nn.Sequential(net().a), "repair": Repair(recalibrate=True)}, "no batch norm"),
        ({"batch_size": 0}, "`batch_size` is 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(change, words):
    given = {**PLAIN_NET, **change}
    model, x = given.pop("model", net)(), given.pop("x", drawn(40, 8))
    options = {key: given.pop(key) for key in ("repair", "batch_size") if key in given}
    with pytest.raises(ZooError, match=words):
        prune(model, (x, None), options=exact(**options), **given)


@pytest.mark.parametrize("wrong", [{"macs": "0.5"}, {"macs": math.nan}, {"macs": 0.5, "minimum": 2.5}])
def test_a_budget_is_made_of_numbers(wrong):
    with pytest.raises(ZooError):
        Budget(**wrong)


def test_a_reader_too_wide_to_repair_is_named():
    with pytest.raises(ZooError, match="A Linear with 20000 inputs is too wide to repair"):
        ReaderMoments(Reader.of(nn.Linear(20000, 1), 20000))


def test_pruning_inside_inference_mode_is_refused():
    with torch.inference_mode(), pytest.raises(ZooError, match="outside torch"):
        prune(net(), (drawn(40, 8), None), eps=0.01, method="combined")
