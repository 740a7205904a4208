"""The whole run: eps, the choice between local and global, baselines, determinism, resuming, networks of one's own."""

import copy
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from classifier import entropy, trained
from exact_search import EXACT, exact
from torch import nn

from zoo.errors import ZooError
from zoo.models import NeuronGroup, Reader, build, mlp
from zoo.prune import METHODS, Options, Repair, Runtime, Search, cut, prune
from zoo.prune.engine import GroupEvaluator, Target
from zoo.prune.options import MethodConfig


@pytest.fixture(scope="module")
def case():
    return trained()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_to_eps(case, method):
    """Each group raises the cross-entropy by less than eps, so two groups raise it by less than twice that; recounted
    on the cut network."""
    model, data = case
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small, report = prune(model, data, eps=0.03, method=method, options=exact())
    assert entropy(small, data) - entropy(model, data) < 2 * 0.03 + 1e-5
    assert entropy(small, data) - entropy(model, data) == pytest.approx(sum(g.gap for g in report.groups), abs=1e-5)
    assert small.widths == {g.name: g.after for g in report.groups}
    assert sum(small.widths.values()) < 70
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert type(small) is type(model)
    assert not small.training


def test_combined_takes_the_one_that_keeps_fewer_and_the_smaller_discrepancy_on_a_tie(case):
    model, data = case
    for seed in range(3):
        _, report = prune(model, data, eps=0.02, method="combined", options=exact(), seed=seed)
        for g in report.groups:
            counts = {name: n for name, n in (("local", g.local), ("global", g.global_)) if n is not None}
            if g.winner != "whole":
                assert g.after == counts[g.winner] == min(counts.values())
    # The first group sees the same network whatever the method, so the combined row is the better of the two.
    both, *alone = (
        prune(model, data, eps=0.02, method=method, options=exact())[1].groups[0]
        for method in ("combined", "local", "global")
    )
    assert (both.local, both.global_) == (alone[0].local, alone[1].global_)
    pruned = [g for g in alone if g.winner != "whole"]
    assert pruned
    best = min(pruned, key=lambda g: (g.after, g.discrepancy))
    assert (both.winner, both.after, both.discrepancy) == (best.winner, best.after, pytest.approx(best.discrepancy))


def test_a_smaller_eps_keeps_more_and_eps_zero_can_keep_all(case):
    model, data = case
    sizes = [
        sum(prune(model, data, eps=eps, method="local", options=exact())[0].widths.values())
        for eps in (0.1, 0.02, 0.001)
    ]
    assert sizes[0] <= sizes[1] <= sizes[2]
    whole, report = prune(model, data, eps=0.0, method="l1", options=exact())
    for g in report.groups:
        assert g.winner in ("whole", "l1")
        if g.winner == "whole":
            assert g.before == g.after
    assert entropy(whole, data) <= entropy(model, data) + 1e-6


def test_the_same_seed_gives_the_same_network(case):
    model, data = case
    for how in ({}, {"method": "combined", "options": exact()}):
        first, second = (prune(model, data, eps=0.02, seed=7, **how)[0].state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", METHODS)
def test_widths_instead_of_eps_are_met(case, method):
    model, data = case
    small, _ = prune(model, data, widths={"hidden1": 11}, method=method)
    assert small.widths["hidden1"] <= 11
    assert small.widths["hidden2"] == 30
    if method in ("gfs", "l1", "uniform"):  # convex weights may be best with fewer
        assert small.widths["hidden1"] == 11
    assert small.widths["hidden1"] >= 8


def test_only_the_named_groups_are_touched(case):
    model, data = case
    small, report = prune(model, data, eps=0.05, method="local", groups=["hidden2"])
    assert small.widths["hidden1"] == 40
    assert [g.name for g in report.groups] == ["hidden2"]


def test_squared_error_needs_no_labels(case):
    model, (x, _) = case
    small, report = prune(model, (x, None), eps=2.0, method="combined", options=exact(discrepancy="squared_error"))
    moved = (small(x) - model(x)).square().sum(1).mean().item()
    assert moved > 0
    assert all(g.gap == g.discrepancy < 2.0 for g in report.groups)


def test_uniform_takes_the_same_part_of_every_group(case):
    model, data = case
    widths = prune(model, data, eps=0.05, method="uniform", options=exact())[0].widths
    assert widths["hidden1"] / 40 == pytest.approx(widths["hidden2"] / 30, abs=1 / 30)


def test_a_bound_on_memory_changes_nothing():
    """With no room every state is computed again: same choices, same weights."""
    torch.manual_seed(1)
    model = build("vgg11", num_classes=3, widths={f"features.{i}": 12 for i in (0, 4, 8, 11, 15, 18, 22, 25)}).eval()
    data = torch.randn(24, 3, 32, 32), torch.randint(0, 3, (24,))
    how = {"eps": 0.01, "method": "combined", "options": exact(batch_size=8)}
    kept, _ = prune(model, data, **how)
    again, _ = prune(model, data, **how, runtime=Runtime(cache_bytes=0))
    assert kept.widths == again.widths
    for name, value in kept.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name])


class Own(nn.Module):
    """A user's network that knows nothing of zoo.models but the two records; without stages()."""

    def __init__(self, wide=24):
        super().__init__()
        self.first = nn.Conv2d(1, wide, 3, padding=1)
        self.norm = nn.BatchNorm2d(wide)
        self.second = nn.Linear(wide * 16, 4)

    def forward(self, x):
        return self.second(F.max_pool2d(torch.tanh(self.norm(self.first(x))), 2).flatten(1))

    def neuron_groups(self):
        n = self.first.out_channels
        reader = Reader(self.second, torch.arange(n * 16).view(n, 16))
        return [NeuronGroup("first", (self.first, self.norm), (reader,))]


def test_a_network_of_ones_own():
    torch.manual_seed(0)
    model = Own().eval()
    x = torch.randn(64, 1, 8, 8)
    data = x, model(x).argmax(1)
    small, report = prune(model, data, eps=0.05, method="combined", options=exact())
    n = report.groups[0].after
    assert n < 24
    assert small.first.weight.shape == (n, 1, 3, 3)
    assert small.second.weight.shape == (4, 16 * n)
    assert entropy(small, data) - entropy(model, data) < 0.05


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"eps": -0.1}, "not negative; got -0.1"),
        ({"eps": float("nan")}, "not negative; got nan"),
        ({"eps": None}, "Give one goal: `eps`"),
        ({"method": "locale"}, "no pruning method 'locale'; did you mean local"),
                ({"groups": ["hidden3"]}, "no neuron group 'hidden3'; did you mean hidden"),
        ({"eps": None, "widths": {"hidden1": 0}}, "can keep 1 to 40 neurons, not 0"),
    ],
)
def test_bad_arguments_are_one_sentence(case, change, words):
    model, data = case
    with pytest.raises(ZooError, match=words):
        prune(model, data, **{"eps": 0.1, **change})


def test_options_that_do_not_exist_are_named():
    with pytest.raises(ZooError, match="no discrepancy 'hinge'"):
        Options(discrepancy="hinge")
    with pytest.raises(ZooError, match="The repair uses all positions"):
        Options(search=Search(position_fraction=0.5), repair=Repair())


def test_bad_data_is_named(case):
    model, (x, y) = case
    broken = x.clone()
    broken[3, 2] = float("nan")
    with pytest.raises(ZooError, match="sample 3 holds NaN"):
        prune(model, (broken, y), eps=0.1)
    with pytest.raises(ZooError, match="256 pruning samples came with 255 labels"):
        prune(model, (x, y[1:]), eps=0.1)
    with pytest.raises(ZooError, match="no pruning samples"):
        prune(model, (x[:0], y[:0]), eps=0.1)
    with pytest.raises(ZooError, match="no method neuron_groups"):
        prune(nn.Linear(8, 3), (x, y), eps=0.1)


def test_a_resume_file_of_other_settings_is_refused(case, tmp_path):
    model, data = case
    prune(model, data, eps=0.02, method="local", runtime=Runtime(resume_file=tmp_path / "journal"))
    with pytest.raises(ZooError, match="another network, other data or other settings"):
        prune(model, data, eps=0.03, method="local", runtime=Runtime(resume_file=tmp_path / "journal"))
    (tmp_path / "journal").write_text("{")
    with pytest.raises(ZooError, match="not a resume file of pruning"):
        prune(model, data, eps=0.02, method="local", runtime=Runtime(resume_file=tmp_path / "journal"))


SCRIPT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from classifier import trained
from exact_search import exact
from zoo.prune import Runtime, prune
model, data = trained()
how = {"eps": 0.02, "method": "combined", "options": exact()}
small, _ = prune(model, data, runtime=Runtime(resume_file=sys.argv[2]), **how)
torch.save(small.state_dict(), sys.argv[3])
"""


def test_a_killed_run_goes_on_and_ends_with_the_same_network(case, tmp_path):
    """kill -9 when the first group is on disk; the same call then ends with the uninterrupted run's weights."""
    model, data = case
    how = {"eps": 0.02, "method": "combined", "options": exact()}
    expected = prune(model, data, **how)[0].state_dict()
    resume_file, out = tmp_path / "journal", tmp_path / "weights.pt"
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[1] / "support"), str(resume_file), str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not resume_file.exists() and process.poll() is None:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed_with = resume_file.read_text().count('"report"')
    small, report = prune(model, data, runtime=Runtime(resume_file=resume_file), **how)
    assert killed_with >= 1
    assert len(report.groups) == 2
    assert all(torch.equal(value, expected[name]) for name, value in small.state_dict().items())
    assert cut(model, {}).widths == model.widths


def test_sampled_positions_are_reported_with_their_error_and_prune_alike():
    torch.manual_seed(1)
    model = build("vgg11", num_classes=3, widths={f"features.{i}": 12 for i in (0, 4, 8, 11, 15, 18, 22, 25)}).eval()
    data = torch.randn(24, 3, 32, 32), torch.randint(0, 3, (24,))
    _, whole = prune(model, data, eps=0.01, method="local", options=exact())
    sampled = Options(search=replace(EXACT, position_fraction=0.5))
    again, report = prune(model, data, eps=0.01, method="local", options=sampled)
    assert all(group.gram_rel_stderr is None for group in whole.groups)
    first = report.groups[0]
    assert first.gram_rel_stderr is not None
    assert 1e-4 < first.gram_rel_stderr < 0.5
    assert "error of G" in report.table()
    assert "error of G" not in whole.table()
    assert abs(first.after - whole.groups[0].after) <= 4
    assert prune(model, data, eps=0.01, method="local", options=sampled)[0].widths == again.widths


@pytest.mark.parametrize("method", ["local", "global"])
def test_a_tolerance_spares_evaluations_and_keeps_every_gap_below_eps(method, monkeypatch):
    torch.manual_seed(0)
    model = mlp(in_features=20, num_classes=4, widths={"hidden1": 150, "hidden2": 150}).eval()
    x = torch.randn(200, 20)
    data = x, model(x).argmax(1)
    evaluations, gap = [], GroupEvaluator.gap
    monkeypatch.setattr(GroupEvaluator, "gap", lambda *args: evaluations.append(0) or gap(*args))

    def run(tolerance):
        before, options = len(evaluations), Options(search=replace(EXACT, eps_tolerance=tolerance))
        report = prune(model, data, eps=0.02, method=method, options=options)[1]
        assert all(0 < group.after < 150 and group.gap < 0.02 for group in report.groups)
        return [group.after for group in report.groups], len(evaluations) - before

    (exact, all_), (near, fewer) = run(0.0), run(0.5)
    assert fewer < all_
    assert near[0] >= exact[0]


def test_a_tolerance_ends_the_search_of_a_uniform_fraction(case, monkeypatch):
    model, data = case
    evaluations, compare = [], Target.gap_and_discrepancy

    def counted(target, logits):
        evaluations.append(0)
        return compare(target, logits)

    monkeypatch.setattr(Target, "gap_and_discrepancy", counted)

    def run(tolerance):
        evaluations.clear()
        options = Options(search=replace(EXACT, eps_tolerance=tolerance))
        small, report = prune(model, data, eps=0.03, method="uniform", options=options)
        assert report.steps[0].gap < 2 * 0.03
        return sum(small.widths.values()), len(evaluations)

    (exact, all_), (near, fewer) = run(0.0), run(0.5)
    assert fewer < all_
    assert exact <= near < 70


def test_fingerprints_are_made_of_the_names_of_the_first_version():
    """So that a resume file of an earlier version goes on."""
    usual = {"exact_until": 0, "candidates": 5, "refresh": 0.5, "settle": True, "positions": 1.0}

    def key(**changes):
        return MethodConfig(search=replace(EXACT, **changes)).cache_key()["search"]

    assert key() == usual
    assert key(eps_tolerance=0.1) == {**usual, "slack": 0.1}
    assert key(eval_dtype="bfloat16") == {**usual, "look_precision": "bfloat16"}
    assert key(holdout=0.5, round_to=8) == {**usual, "holdout": 0.5, "round_to": 8}
    assert MethodConfig().cache_key()["search"] == {**usual, "holdout": 0.25, "round_to": None}
    assert MethodConfig(repair=Repair(recalibrate=True)).cache_key()["repair"] == {
        "readers": True, "direction": "backward", "exchanges": True, "weighting": "output", "discrimination": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, float("nan")])
def test_the_tolerance_is_a_fraction_of_eps(tolerance):
    with pytest.raises(ZooError, match="`eps_tolerance` is a fraction of `eps`"):
        Search(eps_tolerance=tolerance)


@pytest.mark.parametrize("part", [0.0, -0.1, 1.1, float("nan")])
def test_the_fraction_of_positions_lies_between_0_and_1(part):
    with pytest.raises(ZooError, match="`position_fraction` is the fraction of the positions"):
        Search(position_fraction=part)


def test_the_geometric_median_drops_the_filter_that_is_nearest_to_all_others():
    model = mlp(in_features=2, num_classes=2, widths={"hidden1": 5, "hidden2": 4})
    with torch.no_grad():
        model.hidden1.weight.copy_(torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1], [0.1, 0]]))
    small, _ = prune(model, (torch.randn(40, 2), None), widths={"hidden1": 4}, method="fpgm")
    torch.testing.assert_close(small.hidden1.weight, model.hidden1.weight[:4])


def test_first_order_importance_is_the_squared_change_of_the_loss_for_a_small_change_of_a_neuron(case):
    """Against finite differences in float64, batch by batch; and labels are asked for."""
    model, (x, y) = case
    layers = []
    small, _ = prune(model, (x[:100], y[:100]), widths={"hidden1": 20}, method="taylor", options=Options(batch_size=50))
    double = copy.deepcopy(model).double().requires_grad_(False)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    a, b = x[:100][order].double(), y[:100][order]

    def loss(batch, i, change):
        hidden = torch.relu(double.hidden1(a[batch]))
        hidden[:, i] *= 1 + change
        return float(F.cross_entropy(double.out(torch.relu(double.hidden2(hidden))), b[batch]))

    batches = torch.arange(100).split(32)
    for i in range(40):
        slopes = [(loss(batch, i, 1e-5) - loss(batch, i, -1e-5)) / 2e-5 for batch in batches]
        layers.append(sum(slope**2 for slope in slopes) / len(slopes))
    kept = sorted(sorted(range(40), key=lambda i: -layers[i])[:20])
    torch.testing.assert_close(small.hidden1.weight, model.hidden1.weight[kept])
    with pytest.raises(ZooError, match="needs the labels"):
        prune(model, (x, None), widths={"hidden1": 20}, method="taylor")
