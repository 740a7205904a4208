"""Samples that judge whether a group meets eps, and choose nothing: against the same with them replaced, and against
brute force over one part or the other."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from classifier import entropy, trained
from exact_search import EXACT, exact

from zoo.errors import ZooError
from zoo.models import build
from zoo.prune import PAPER, Options, PruneReport, Repair, Search, StepReport, default_method, prune
from zoo.prune.engine import GroupEvaluator, PruningSession
from zoo.prune.options import MethodConfig
from zoo.prune.statistics import fisher_matrices
from zoo.prune.statistics.input_matrix import input_matrix

M, J = 101, 25  # samples, and those of them that judge: round(0.25 M)


def parts(samples=M, judges=J, seed=0):
    """The indices of the samples that judge, and of those that choose, as `prune` was given them."""
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    return order[:judges], order[judges:]


def rest_of(samples, seed):
    """The samples with those that judge replaced by others."""
    x, y = samples
    judges, _ = parts()
    generator = torch.Generator().manual_seed(seed)
    x, y = x.clone(), y.clone()
    x[judges] = 3 * torch.randn(x[judges].shape, generator=generator, dtype=x.dtype)
    y[judges] = torch.randint(0, int(y.max()) + 1, (J,), generator=generator)
    return x, y


def kl(model, other, x):
    """(b,) KL(softmax(model) || softmax(other)) of each sample, from its definition."""
    with torch.no_grad():
        p, q = F.log_softmax(model(x).double(), 1), F.log_softmax(other(x).double(), 1)
    return (p.exp() * (p - q)).sum(1)


@pytest.fixture(scope="module")
def case():
    return trained(samples=M)


@pytest.fixture(scope="module")
def images():
    torch.manual_seed(1)
    model = build("vgg11", num_classes=3, widths={f"features.{i}": 12 for i in (0, 4, 8, 11, 15, 18, 22, 25)}).eval()
    x = torch.randn(M, 3, 32, 32)
    return model, (x, torch.arange(M) % 3)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


HALF_LABELS = Repair(label_weight=0.5)
CHOICES = {
    "repaired": ("repaired", Options()),
    "repaired, labels": ("repaired", Options(repair=HALF_LABELS)),
    "repaired, forward": ("repaired", Options(repair=Repair(selection="forward"))),
    "distilled": ("repaired", Options(repair=Repair(distil_epochs=2))),
    "local": ("local", Options()),
    "local, weighted": ("local", Options(repair=replace(HALF_LABELS, update_weights=False))),
    "local, repaired": ("local", Options(repair=Repair())),
    "global": ("global", Options()),
    "global, exhaustive": ("global", Options(search=Search(exhaustive_below=5, gradient_reuse=0.0))),
    "global, of the paper": ("global", Options(search=replace(PAPER, exhaustive_below=4, holdout=0.25))),
    "combined": ("combined", Options()),
    "gfs": ("gfs", Options()),
    "taylor": ("taylor", Options()),
}


@pytest.mark.parametrize("name", CHOICES)
def test_samples_that_judge_choose_nothing(case, name, monkeypatch):
    """With a judgement that sees the number of neurons alone, other samples in their place give the same network, bit
    by bit; and one other sample among those that choose gives another one."""
    model, data = case
    method, options = CHOICES[name]
    options = replace(options, batch_size=16)

    def by_number(evaluator, scale, *_):
        return 0.1 if int(torch.count_nonzero(scale)) < evaluator.size // 2 else -0.1

    monkeypatch.setattr(GroupEvaluator, "gap", by_number)
    monkeypatch.setattr(GroupEvaluator, "exact_gap", by_number)
    small, report = prune(model, data, eps=0.0, method=method, options=options)
    assert report.held_out == J
    assert all(group.after < group.before for group in report.groups)
    for seed in range(2):
        again, other = prune(model, rest_of(data, seed), eps=0.0, method=method, options=options)
        assert same(small, again), name
        assert [step.gap for step in other.steps] == [step.gap for step in report.steps]
        assert [step.held_out_gap for step in other.steps] != [step.held_out_gap for step in report.steps]
    x, y = data[0].clone(), data[1].clone()
    _, choosers = parts()
    x[choosers[::2]], y[choosers[::2]] = 3 * x[choosers[::2]].flip(0), y[choosers[::2]].flip(0)
    assert not same(small, prune(model, (x, y), eps=0.0, method=method, options=options)[0])


@pytest.mark.parametrize("repair", [Repair(recalibrate=True), Repair(distil_epochs=1)])
def test_the_last_steps_do_not_see_them_either(images, repair, monkeypatch):
    model, data = images
    monkeypatch.setattr(GroupEvaluator, "gap", lambda evaluator, scale, eps: float(scale[scale > 0].numel() < 8))
    options = Options(repair=repair, batch_size=16)
    small, again = (
        prune(model, samples, eps=0.5, method="repaired", options=options)[0] for samples in (data, rest_of(data, 0))
    )
    assert set(small.widths.values()) == {8}
    assert same(small, again)


def test_statistics_are_sums_over_the_samples_that_choose(images):
    """Moments of the readers, their Fisher information, and G with and without it, from explicit rows."""
    model, (x, y) = copy.deepcopy(images[0]).double(), (images[1][0].double(), images[1][1])
    config = MethodConfig("repaired", Search(), Repair(label_weight=0.3), batch_size=16)
    with PruningSession(model, x, y, config, holdout=0.25) as session:
        _, choosers = parts()
        assert torch.equal(session.choosers, x[choosers])
        assert session.num_judges == J
        fisher = session.fisher_matrices()
        labels = [part for batch in y[choosers].split(16) for part in batch.split(4)]
        batches = [part for batch in x[choosers].split(16) for part in batch.split(4)]
        expected = fisher_matrices(
            session.model, session.groups, batches, torch.Generator().manual_seed(0), labels=labels, label_weight=0.3
        )
        activations = session.activation_cache()
        reference = session.logits(activations)
        for group in (session.groups[0], session.groups[-1]):
            for gamma, by_hand in zip(fisher[group.name], expected[group.name], strict=True):
                torch.testing.assert_close(gamma, by_hand, rtol=1e-9, atol=1e-15)
            evaluator = session.evaluator(group, activations, reference, fisher=fisher, reconstruct=True)
            plain = session.evaluator(group, activations, reference)
            assert evaluator.num_choosers == M - J
            seen = []
            (reader,), (gamma,) = group.readers, fisher[group.name]
            handle = reader.module.register_forward_pre_hook(lambda module, inputs, to=seen: to.append(inputs[0]))
            with torch.no_grad():
                for batch in x[choosers].split(16):
                    session.model(batch)
            handle.remove()
            phi = torch.cat([input_matrix(reader, inputs) for inputs in seen])
            moments = evaluator.reconstruction.moments[0]
            torch.testing.assert_close(moments.all.raw(), phi.t() @ phi, rtol=1e-9, atol=1e-9)
            assert moments.all.rows == len(phi)
            parts_ = [phi[:, columns] @ reader.weight[:, columns].t() for columns in reader.all_columns]
            G = torch.stack([torch.stack([(a * b).sum() for b in parts_]) for a in parts_])
            torch.testing.assert_close(plain.gram(torch.Generator()), G / G.sum(), rtol=1e-8, atol=1e-12)
            weighted = torch.stack([torch.stack([((a @ gamma) * b).sum() for b in parts_]) for a in parts_])
            weighted *= 0.5 / (M - J)
            torch.testing.assert_close(evaluator.gram(torch.Generator()), weighted, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("batch_size", [7, 64, 200])
def test_minibatches_hold_samples_that_choose_and_all_of_these_in_turn(case, batch_size):
    model, (x, y) = case
    with PruningSession(model, x, y, MethodConfig(batch_size=batch_size), holdout=0.25) as session:
        activations = session.activation_cache()
        evaluator = session.evaluator(session.groups[0], activations, session.logits(activations))
        generator, drawn = torch.Generator().manual_seed(0), set()
        _, choosers = parts()
        for _ in range(100):
            state, samples = evaluator.minibatch(generator)
            assert len(samples) == min(batch_size, M - J)
            with torch.no_grad():
                torch.testing.assert_close(state, torch.relu(model.hidden1(x[choosers[samples - J]])))
            drawn |= {*samples.tolist()}
        assert drawn == set(range(J, M))


@pytest.mark.parametrize("method", ["repaired", "combined", "global", "taylor", "l1", "uniform"])
@pytest.mark.parametrize("seed", [0, 3])
def test_gaps_in_the_report_are_those_of_the_cut_network_on_either_part(case, method, seed):
    model, (x, y) = case
    judges, choosers = parts(seed=seed)
    held, others = (x[judges], y[judges]), (x[choosers], y[choosers])
    small, report = prune(model, (x, y), eps=0.2, method=method, seed=seed)
    (step,) = report.steps
    assert report.held_out == J
    assert sum(small.widths.values()) < 70
    assert step.held_out_gap == pytest.approx(entropy(small, held) - entropy(model, held), abs=1e-5)
    assert step.gap == pytest.approx(entropy(small, others) - entropy(model, others), abs=1e-5)
    assert step.held_out_discrepancy == pytest.approx(float(kl(model, small, held[0]).mean()), abs=1e-5)
    assert step.discrepancy == pytest.approx(float(kl(model, small, others[0]).mean()), abs=1e-5)
    assert sum(group.gap for group in report.groups) == pytest.approx(step.held_out_gap, abs=1e-5)
    # Of the first group the network before is the unpruned one.
    alone, report = prune(model, (x, y), eps=0.2, method=method, seed=seed, groups=["hidden2"])
    (group,) = report.groups
    assert group.gap == pytest.approx(entropy(alone, held) - entropy(model, held), abs=1e-5)
    assert group.discrepancy == pytest.approx(float(kl(model, alone, held[0]).mean()), abs=1e-5)


def test_without_labels_the_discrepancies_are_of_either_part(case):
    model, (x, _) = case
    judges, choosers = parts()
    small, report = prune(model, (x, None), eps=0.2)
    (step,) = report.steps
    assert (step.gap, step.held_out_gap) == (None, None)
    assert step.held_out_discrepancy == pytest.approx(float(kl(model, small, x[judges]).mean()), abs=1e-5)
    assert step.discrepancy == pytest.approx(float(kl(model, small, x[choosers]).mean()), abs=1e-5)
    assert all(group.gap == group.discrepancy < 0.2 for group in report.groups)


@pytest.mark.parametrize("labelled", [True, False])
def test_what_is_compared_with_eps_is_the_mean_and_one_standard_error(case, labelled):
    """By `gap`, which may end early, by `exact_gap`, and after the logits are known; nothing is added where all samples
    choose."""
    model, (x, y) = case
    model, x = copy.deepcopy(model).double(), x.double()
    for holdout in (0.25, 0.0):
        with PruningSession(model, x, y if labelled else None, MethodConfig(batch_size=8), holdout=holdout) as session:
            activations = session.activation_cache()
            evaluator = session.evaluator(session.groups[0], activations, session.logits(activations))
            scale = torch.ones(40, dtype=torch.float64)
            scale[::3] = 0
            judges = parts()[0] if holdout else torch.arange(M)
            with torch.no_grad():
                hidden = torch.relu(model.hidden1(x[judges])) * scale
                after = F.cross_entropy(model.out(torch.relu(model.hidden2(hidden))), y[judges], reduction="none")
                gaps = after - F.cross_entropy(model(x[judges]), y[judges], reduction="none")
                if not labelled:
                    p = F.log_softmax(model(x[judges]), 1)
                    q = F.log_softmax(model.out(torch.relu(model.hidden2(hidden))), 1)
                    gaps = (p.exp() * (p - q)).sum(1)
            expected = float(gaps.mean()) + (float(gaps.std()) / math.sqrt(J) if holdout else 0.0)
            found = evaluator.gap(scale, math.inf), evaluator.gap(scale, math.inf), evaluator.exact_gap(scale)
            assert found == (pytest.approx(expected, rel=1e-9),) * 3
            assert evaluator.gap_and_discrepancy(scale)[0] == pytest.approx(float(gaps.mean()), rel=1e-9)
            assert evaluator.gap(scale * math.nan, 0.1) == math.inf


def test_a_tie_goes_to_the_smaller_discrepancy_on_the_samples_that_choose(case):
    model, (x, y) = case
    _, choosers = parts()
    with PruningSession(model, x, y, MethodConfig(batch_size=16), holdout=0.25) as session:
        activations = session.activation_cache()
        evaluator = session.evaluator(session.groups[0], activations, session.logits(activations))
        scale = torch.ones(40, dtype=torch.float64)
        scale[:20] = 0
        gated = copy.deepcopy(model)
        gated.hidden2.weight.data[:, :20] = 0
        expected = float(kl(model, gated, x[choosers]).mean())
        assert evaluator.chooser_discrepancy(scale) == pytest.approx(expected, rel=1e-4)
        assert evaluator.gap_and_discrepancy(scale)[1] != pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("samples", "holdout", "judges"), [
    (1, 0.25, 0), (2, 0.25, 0), (3, 0.25, 1), (4, 0.25, 1), (10, 0.25, 2), (4, 0.9, 3), (2, 0.9, 1), (40, 0.0, 0),
])  # fmt: skip
@pytest.mark.parametrize("method", ["repaired", "combined"])
def test_a_few_samples_are_parted_and_one_at_least_chooses(case, samples, holdout, judges, method):
    model, (x, y) = case
    options = Options(search=Search(holdout=holdout))
    small, report = prune(model, (x[:samples], y[:samples]), eps=5.0, method=method, options=options)
    assert report.held_out == judges
    assert (report.steps[0].held_out_discrepancy is None) == (judges == 0)
    assert sum(small.widths.values()) < 70


def test_where_nothing_is_judged_nothing_is_held_out(case):
    model, data = case
    for options, goal in ((None, {"widths": {"hidden1": 16}}), (exact(), {"eps": 0.1}), (Options(PAPER), {"eps": 0.1})):
        _, report = prune(model, data, options=options, **goal)
        assert report.held_out == 0
        assert report.steps[0].held_out_gap is None
        assert "held out" not in report.table()
    given = [prune(model, data, widths={"hidden1": 16}, options=options)[0] for options in (exact(), Options())]
    assert same(*given)


@pytest.mark.parametrize("wrong", [-0.1, 1.0, math.nan])
def test_the_part_that_is_held_out_is_a_fraction(wrong):
    with pytest.raises(ZooError, match=r"`holdout` is a fraction of the samples, .*; got"):
        Search(holdout=wrong)


def test_the_method_of_the_papers_search_is_the_papers_and_of_any_other_repaired(case):
    assert default_method() == default_method(Search()) == default_method(EXACT) == "repaired"
    assert default_method(PAPER) == "combined"
    model, data = case
    assert prune(model, data, eps=0.1)[1].method == "repaired"
    assert prune(model, data, eps=0.1, options=Options(PAPER))[1].method == "combined"


def test_a_table_has_both_columns_where_samples_are_held_out():
    report = PruneReport(
        "repaired", 0.02, "cross_entropy", 0, 101, [],
        [StepReport("pruned", 0.01234, 0.0056, 1.25, 0.02345, -0.0078),
         StepReport("distilled", 0.00456, 0.0011, 12.5, 0.00789, 0.0022)], held_out=25,
    )  # fmt: skip
    assert report.table().splitlines()[-3:] == [
        "the whole network on the pruning data  discrepancy      gap   on 25 held out: discrepancy      gap  seconds",
        "pruned                                     0.01234  +0.0056                       0.02345  -0.0078      1.2",
        "distilled                                  0.00456  +0.0011                       0.00789  +0.0022     12.5",
    ]
    unlabelled = replace(report, steps=[StepReport("pruned", 0.01234, None, 1.25, 0.02345, None)])
    assert unlabelled.table().splitlines()[-1] == (
        "pruned                                     0.01234        -                       0.02345        -      1.2"
    )
    alone = replace(report, steps=[StepReport("pruned", 0.01234, 0.0056, 1.25)], held_out=0)
    assert alone.table().splitlines()[-2:] == [
        "the whole network on the pruning data  discrepancy      gap  seconds",
        "pruned                                     0.01234  +0.0056      1.2",
    ]
    assert report.to_dict()["held_out"] == 25
    assert report.to_dict()["steps"][0]["held_out_gap"] == -0.0078
