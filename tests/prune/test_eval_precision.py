"""Evaluation in half precision: what runs in it, what does not, and what the report says about it."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from classifier import entropy, trained
from exact_search import EXACT, exact
from torch import nn

from zoo.errors import ZooError
from zoo.models import Stage, build, groups_of, stages_of
from zoo.prune import METHODS, Budget, Options, Repair, Runtime, Search, prune
from zoo.prune.engine import ActivationCache, PruningSession
from zoo.prune.options import MethodConfig

BFLOAT16 = replace(EXACT, eval_dtype="bfloat16")


@pytest.fixture(scope="module")
def case():
    return trained()


@pytest.fixture(scope="module")
def images():
    torch.manual_seed(0)
    model = build("resnet34", num_classes=3).eval()
    return model, torch.randn(12, 3, 32, 32)


def tensors(state):
    return [state] if isinstance(state, torch.Tensor) else [tensor for part in state for tensor in tensors(part)]


@pytest.mark.slow
@pytest.mark.parametrize("memory", [2**30, 0], ids=["kept", "run again"])
def test_all_stages_but_the_last_run_under_autocast(images, memory):
    model, x = images
    stages = stages_of(model)
    activations = ActivationCache(stages, list(x.split(5)), cache_bytes=memory, precision=torch.bfloat16)
    for position in (0, 3, len(stages) - 2, len(stages) - 1):
        activations.advance(position)
        for batch, part in enumerate(x.split(5)):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                for stage in stages[:position]:
                    part = stage.run(part)
                state = part
                for stage in stages[position:-1]:
                    part = stage.run(part)
            with torch.no_grad():
                logits = stages[-1].run(part.float())
                outputs = activations.outputs(batch)
            for cached, expected in zip(tensors(activations.state(batch)), tensors(state), strict=True):
                assert cached.dtype == (torch.bfloat16 if position else torch.float32)
                assert torch.equal(cached, expected)
            assert outputs.dtype == torch.float32
            assert torch.equal(outputs, logits)
            assert not torch.equal(outputs, model(x.split(5)[batch]))


def test_a_network_of_one_stage_is_evaluated_in_half_precision_too():
    torch.manual_seed(0)
    model, x = nn.Linear(8, 3), torch.randn(6, 8)
    activations = ActivationCache([Stage("whole", model, (model,))], [x], cache_bytes=0, precision=torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model(x)
    outputs = activations.outputs(0)
    assert outputs.dtype == torch.float32
    assert torch.equal(outputs, expected.float())
    assert not torch.equal(outputs, model(x))


def test_statistics_are_summed_in_full_precision(images):
    """Those of a 3 x 3 reader, against the explicit product of the patches that it reads under autocast."""
    model, x = copy.deepcopy(images[0]), images[1]
    group = groups_of(model)[2]
    with PruningSession(model, x, None, MethodConfig(search=BFLOAT16, batch_size=8)) as session:
        activations = session.activation_cache()
        group = next(copied for copied in session.groups if copied.name == group.name)
        evaluator = session.evaluator(group, activations, session.logits(activations))
        seen = []
        reader = group.readers[0].module
        handle = reader.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        G = evaluator.gram(torch.Generator())
        handle.remove()
    assert {x.dtype for x in seen} == {torch.bfloat16}
    patches = torch.cat([F.unfold(x.double(), 3, padding=1, stride=reader.stride) for x in seen])
    W = reader.weight.double().flatten(1)  # columns: neuron after neuron, nine each
    parts = [
        torch.einsum("bkp,ok->bop", patches[:, 9 * i : 9 * i + 9], W[:, 9 * i : 9 * i + 9]).flatten()
        for i in range(group.size)
    ]
    expected = torch.stack(parts) @ torch.stack(parts).T
    torch.testing.assert_close(G, expected / expected.sum(), rtol=0, atol=1e-6 * float(G.abs().max()))


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"repaired"}))
def test_eps_holds_in_float32_up_to_the_rounding_in_the_report(case, method):
    model, data = case
    small, report = prune(model, data, eps=0.03, method=method, options=Options(search=BFLOAT16))
    rise = entropy(small, data) - entropy(model, data)
    assert report.eval_dtype == "bfloat16"
    assert report.rounding is not None
    assert report.steps[0].gap == pytest.approx(rise, abs=1e-6)
    assert rise == pytest.approx(sum(group.gap for group in report.groups) - report.rounding, abs=1e-5)
    assert 1e-7 < abs(report.rounding) < 0.01
    assert sum(small.widths.values()) < 70
    assert f"evaluated in bfloat16, which moved the gap of 'pruned' by {report.rounding:+.4f}" in report.table()
    assert all(weight.dtype == torch.float32 for weight in small.parameters())


def test_float32_and_passes_over_fewer_samples_report_no_rounding(case):
    model, data = case
    _, report = prune(model, data, eps=0.03, method="local", options=exact())
    assert (report.eval_dtype, report.rounding) == ("float32", None)
    assert "looked at in" not in report.table()
    more = torch.cat([data[0], data[0]]), torch.cat([data[1], data[1]])
    _, report = prune(model, more, budget=Budget(macs=0.5), method="local", options=Options(search=BFLOAT16))
    assert report.rounding is None


def test_without_labels_the_rounding_is_that_of_the_discrepancy(case):
    model, (x, _) = case
    _, report = prune(model, (x, None), eps=0.03, method="local", options=Options(search=BFLOAT16))
    assert report.steps[0].gap is None
    assert report.rounding is not None
    assert 0 < abs(report.rounding) < 0.01


def test_a_resumed_pass_reports_the_same_rounding(case, tmp_path):
    model, data = case
    options, runtime = Options(search=BFLOAT16), Runtime(resume_file=tmp_path / "journal")
    first, resumed = (
        prune(model, data, eps=0.03, method="local", options=options, runtime=runtime) for _ in range(2)
    )
    assert resumed[0].widths == first[0].widths
    assert resumed[1].rounding == first[1].rounding


def test_networks_and_settings_that_need_float32_are_refused(case):
    model, data = case
    with pytest.raises(ZooError, match=r"`eval_dtype` is float32 or bfloat16, .* got 'bf16'"):
        Search(eval_dtype="bf16")
    for method, repair in (("repaired", None), ("local", Repair())):
        with pytest.raises(ZooError, match=r"repair fits to measured inputs, .* or take `method=local`"):
            prune(model, data, eps=0.03, method=method, options=Options(repair=repair, search=BFLOAT16))
    double = data[0].double(), data[1]
    with pytest.raises(ZooError, match="is for a network in float32; this one has float64 weights"):
        prune(copy.deepcopy(model).double(), double, eps=0.03, method="local", options=Options(search=BFLOAT16))


def test_scales_are_not_rounded(case):
    """8 bits take 1.003 for 1; the network that is cut has the scale as it is."""
    model, (x, _) = case
    with PruningSession(model, x, None, MethodConfig(search=BFLOAT16)) as session:
        activations = session.activation_cache()
        evaluator = session.evaluator(session.groups[0], activations, session.logits(activations))
        near, one = (evaluator.logits(torch.full((40,), scale, dtype=torch.float64)) for scale in (1.003, 1.0))
    assert not near.equal(one)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_evaluation_in_half_precision_on_a_gpu(case):
    model, data = copy.deepcopy(case[0]).cuda(), tuple(tensor.cuda() for tensor in case[1])
    small, report = prune(model, data, eps=0.03, method="combined", options=Options(search=BFLOAT16))
    assert entropy(small, data) - entropy(model, data) == pytest.approx(report.steps[0].gap, abs=1e-5)
    assert report.rounding is not None
    assert abs(report.rounding) < 0.01
