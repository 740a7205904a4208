"""Global imitation against brute force, and its gradients against finite differences."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from exact_search import EXACT
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.errors import ZooError
from zoo.models import build, groups_of, mlp, stages_of
from zoo.prune.engine import ActivationCache, Gates, GroupEvaluator, Target
from zoo.prune.options import PAPER, MethodConfig, Search
from zoo.prune.search.global_search import PickCounts, _step, global_imitation

N, M = 10, 48


@pytest.fixture
def layer():
    """The first hidden layer of a small classifier in float64, on one batch of 48 samples."""
    torch.manual_seed(0)
    model = mlp(in_features=6, num_classes=3, widths={"hidden1": N, "hidden2": 8}).double().eval()
    x = torch.randn(M, 6, dtype=torch.float64)
    model.requires_grad_(False)
    groups = groups_of(model)
    logits = model(x)
    with Gates(groups) as gates:
        chain = ActivationCache(stages_of(model), list(x.split(20)), cache_bytes=2**30)
        chain.advance(1)
        target = Target("cross_entropy", logits, logits.argmax(1))
        yield GroupEvaluator(groups[0], chain, gates, target, MethodConfig(search=EXACT, batch_size=M)), model, x


def written_out(model, x, scale):
    """KL of the network whose first hidden layer is scaled, from its definition."""
    hidden = torch.relu(model.hidden1(x)) * scale
    logits = model.out(torch.relu(model.hidden2(hidden)))
    p, q = F.softmax(model(x), 1), F.softmax(logits, 1)
    return float((p * (p / q).log()).sum(1).mean())


def test_trials_are_the_written_out_discrepancy(layer):
    layer, model, x = layer
    state, samples = layer.minibatch(torch.Generator().manual_seed(0))
    assert torch.equal(samples, torch.arange(M))
    scales = torch.cat([torch.rand(6, N, dtype=torch.float64) * 2, torch.ones(1, N, dtype=torch.float64)])
    expected = [written_out(model, x, scale) for scale in scales]
    for layer.max_forward_samples in (1, 2 * M, 1000):  # candidates one by one, two and all in one forward
        assert layer.batched_candidate_losses(state, samples, scales).tolist() == pytest.approx(expected, abs=1e-12)
    assert [layer.gap_and_discrepancy(scale)[1] for scale in scales] == pytest.approx(expected, abs=1e-12)


def test_several_candidates_at_once_are_the_same_for_every_kind_of_reader():
    """Convolutions, squeeze-excitation and linear layers of MobileNetV3; and edges, points and clouds of a DGCNN."""
    for model, x in ((build("mobilenet_v3_small", num_classes=5), torch.randn(3, 3, 32, 32)),
                     (build("dgcnn", num_classes=5, k=4), torch.randn(3, 3, 24))):  # fmt: skip
        model.eval().requires_grad_(False)
        groups = groups_of(model)
        with Gates(groups) as gates, torch.no_grad():
            chain = ActivationCache(stages_of(model), [x], cache_bytes=2**30)
            target = Target("squared_error", torch.zeros(3, 5), None)
            for group in (groups[0], groups[len(groups) // 2], groups[-1]):
                chain.advance(chain.stage_range(group)[0])
                layer = GroupEvaluator(group, chain, gates, target, MethodConfig(batch_size=3))
                scales = torch.rand(4, group.size, dtype=torch.float64) + 0.5
                state, samples = layer.minibatch(torch.Generator().manual_seed(0))
                layer.max_forward_samples = 1
                one_by_one = layer.batched_candidate_losses(state, samples, scales)
                layer.max_forward_samples = 9
                together = layer.batched_candidate_losses(state, samples, scales)
                torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-6)
                assert one_by_one.unique().numel() == 4


def test_a_gap_that_is_surely_too_large_is_told_early_and_any_other_exactly(layer, monkeypatch):
    monkeypatch.setattr("zoo.prune.engine.running_mean.MIN_SAMPLES", 20)
    layer, *_ = layer
    seen = []
    rest = layer.activations.run_from
    monkeypatch.setattr(layer.activations, "run_from", lambda state: seen.append(len(state)) or rest(state))
    whole = torch.ones(N, dtype=torch.float64)
    near = whole.clone()
    near[3] = 0.9
    assert -1 < layer.gap(near, -1.0) < 1
    assert seen == [20], "a gap of about 0 is surely above -1"
    assert layer.gap(whole, 0.02) == pytest.approx(0, abs=1e-12)
    assert seen == [20, 20, 20, 8]
    exact = layer.gap_and_discrepancy(near)[0]
    assert layer.gap(near, 0.02) == pytest.approx(exact, rel=1e-12)  # another order of the sum
    assert layer.gap(whole * math.nan, 0.02) == math.inf


def test_gradients_are_finite_differences(layer):
    layer, model, x = layer
    state, samples = layer.minibatch(torch.Generator().manual_seed(0))
    scale = torch.rand(N, dtype=torch.float64) * 2
    gradient, _ = layer.gradient(state, samples, scale)
    for i in range(N):
        step = torch.zeros(N, dtype=torch.float64)
        step[i] = 1e-6
        slope = (written_out(model, x, scale + step) - written_out(model, x, scale - step)) / 2e-6
        assert gradient[i].item() == pytest.approx(slope, abs=1e-7)


def test_the_exact_search_is_brute_force(layer):
    """With every candidate tried and the whole data as mini-batch: the picks of equations (6) and (8)."""
    layer, model, x = layer
    scale = global_imitation(
        layer, search=Search(exhaustive_below=N + 1), start=0, eps=None, neurons=5, generator=torch.Generator()
    )
    a = min((torch.eye(N, dtype=torch.float64)[i] for i in range(N)), key=lambda a: written_out(model, x, N * a))
    for k in itertools.count(1):
        trials = []
        for i in range(N):
            trial = a * (1 - 1 / (1 + k))
            trial[i] += 1 / (1 + k)
            trials.append(trial)
        best = min(trials, key=lambda a: written_out(model, x, N * a))
        if torch.count_nonzero(best) > 5:
            break
        a = best
        if torch.count_nonzero(a) == 5:
            break
    torch.testing.assert_close(scale, N * a)


def test_trying_all_by_rank_is_the_exact_search(layer):
    """The Taylor speed-up with as many candidates as neurons changes nothing but the first neuron's search."""
    layer, _, _ = layer
    kwargs = {"eps": None, "neurons": 6, "generator": torch.Generator()}
    exact = global_imitation(layer, search=Search(exhaustive_below=N + 1, gradient_reuse=0), start=0, **kwargs)
    search = Search(exhaustive_below=1, topk_candidates=N, gradient_reuse=0)
    ranked = global_imitation(layer, search=search, start=0, **kwargs)
    torch.testing.assert_close(exact, ranked)


def test_the_largest_predicted_decrease_is_taken(layer):
    """One candidate, no trials: the next neuron is the one along which the discrepancy falls fastest."""
    layer, model, x = layer
    scale = global_imitation(
        layer, search=Search(exhaustive_below=0, topk_candidates=1, gradient_reuse=0), start=3, eps=None, neurons=2,
        generator=torch.Generator(),
    )  # fmt: skip
    a = torch.eye(N, dtype=torch.float64)[3]
    slopes = [written_out(model, x, N * ((1 - 1e-6) * a + 1e-6 * torch.eye(N, dtype=torch.float64)[i]))
              for i in range(N)]  # fmt: skip
    assert {3, int(torch.tensor(slopes).argmin())} == set(scale.nonzero().squeeze(1).tolist())


def test_eps_is_met_on_the_whole_data_and_one_pick_less_misses_it(layer):
    layer, _, _ = layer
    # The labels are the network's own choice, so the gap only grows when neurons go.
    scale = global_imitation(layer, search=PAPER, start=0, eps=0.02, neurons=None, generator=torch.Generator())
    assert layer.gap_and_discrepancy(scale)[0] < 0.02
    assert torch.count_nonzero(scale) < N
    tight = global_imitation(layer, search=PAPER, start=0, eps=0.002, neurons=None, generator=torch.Generator())
    assert tight is None or torch.count_nonzero(tight) >= torch.count_nonzero(scale)


def test_eps_that_cannot_be_met_gives_nothing(layer):
    layer, _, _ = layer
    assert global_imitation(
        layer, search=EXACT, start=0, eps=-1.0, neurons=None, generator=torch.Generator()
    ) is None  # fmt: skip


def test_picks_are_the_convex_updates():
    picks = PickCounts(4)
    a = torch.tensor([0.0, 0, 1, 0], dtype=torch.float64)
    picks.add(torch.tensor([2]))
    for k, i in enumerate([0, 2, 3, 3, 1, 2], 1):
        gamma = 1 / (1 + k)
        a = (1 - gamma) * a
        a[i] += gamma
        torch.testing.assert_close(picks.with_one_more(torch.tensor([i]))[0], 4 * a)
        picks.add(torch.tensor([i]))
        torch.testing.assert_close(picks.scale(), 4 * a)
    picks.sync()
    assert picks.order == [2, 0, 2, 3, 3, 1, 2]
    assert picks.neurons() == 4
    assert picks.neurons(3) == 2
    torch.testing.assert_close(picks.scale(3), torch.tensor([4 / 3, 0, 8 / 3, 0], dtype=torch.float64))
    picks.truncate(3)
    assert torch.equal(picks.scale(), picks.scale(3))


@pytest.mark.parametrize("search", [
    EXACT, replace(EXACT, gradient_reuse=0), replace(EXACT, exhaustive_below=4),
    replace(EXACT, exhaustive_below=4, gradient_reuse=0, refine=False), PAPER,
])  # fmt: skip
@pytest.mark.parametrize("goal", [{"eps": 0.02, "neurons": None}, {"eps": None, "neurons": 6}])
@pytest.mark.parametrize("refined", [True, False])
def test_steps_queued_before_a_synchronisation_pick_the_same_neurons(layer, monkeypatch, search, goal, refined):
    layer, _, _ = layer
    layer.batch_size = 16  # mini-batches differ

    def found(queued):
        monkeypatch.setattr("zoo.prune.search.global_search._steps_per_sync", lambda device: queued)
        return global_imitation(layer, search=search, start=3, generator=torch.Generator().manual_seed(1),
                                refine=(lambda scale: scale * 1.01) if refined else None, **goal)  # fmt: skip

    one_by_one = found(1)
    assert one_by_one is not None
    for queued in (2, 7, 100):
        assert torch.equal(found(queued), one_by_one)


class Read(TorchDispatchMode):
    """Raises where the host reads a number of a tensor, or waits for how many there are."""

    FORBIDDEN = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in self.FORBIDDEN, f"{func} is read"
        return func(*args, **(kwargs or {}))

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for name in ("tolist", "numpy", "cpu"):  # these do not pass by the dispatcher, or do nothing on a CPU
            self.patch.setattr(torch.Tensor, name, lambda *_, name=name, **__: pytest.fail(f"{name} is read"))
        return super().__enter__()

    def __exit__(self, *error):
        self.patch.undo()
        return super().__exit__(*error)


def test_no_step_reads_a_number(layer):
    layer, _, _ = layer
    layer.batch_size = 16
    generator, some = torch.Generator().manual_seed(0), torch.arange(3.0)
    for read in (lambda: float(some.sum()), lambda: some.tolist(), lambda: some.nonzero(), lambda: some.numpy()):
        with pytest.raises((AssertionError, pytest.fail.Exception), match="is read"), Read():
            read()
    for search in (EXACT, replace(EXACT, gradient_reuse=0)):
        picks = PickCounts(N)
        with Read():
            for _ in range(9):
                _step(picks, layer, search, 3, generator)
        picks.sync()
        assert picks.num_picks == len(picks.order) >= 9


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")  # once in a process
@pytest.mark.parametrize("arch", ["mobilenet_v3_small", "dgcnn"])
@pytest.mark.parametrize("refresh", [0.0, 0.5])
def test_no_step_waits_for_a_gpu(arch, refresh):
    torch.manual_seed(0)
    model = build(arch, num_classes=5).cuda().eval().requires_grad_(False)
    x = torch.randn(40, 3, *((32, 32) if arch != "dgcnn" else (64,)), device="cuda")
    before, group = groups_of(model)[:2]
    with Gates(groups_of(model)) as gates, torch.no_grad():
        gates.set(before.name, torch.ones(before.size, dtype=torch.float64))  # on the host
        chain = ActivationCache(stages_of(model), list(x.split(16)), cache_bytes=2**30)
        logits = model(x)
        target = Target("cross_entropy", logits, logits.argmax(1))
        layer = GroupEvaluator(group, chain, gates, target, MethodConfig(batch_size=16))
        for mode in ("default", "error"):  # first what is timed or copied once
            picks, generator = PickCounts(layer.size, "cuda"), torch.Generator().manual_seed(0)
            torch.cuda.set_sync_debug_mode(mode)
            try:
                for _ in range(8):
                    _step(picks, layer, Search(gradient_reuse=refresh), 0, generator)
            finally:
                torch.cuda.set_sync_debug_mode("default")
            assert picks.num_picks >= 8


def test_no_step_is_queued_behind_the_last_that_may_be_needed(layer, monkeypatch):
    layer, _, _ = layer
    steps = []
    real = _step
    monkeypatch.setattr("zoo.prune.search.global_search._steps_per_sync", lambda device: 1000)

    def step(picks, *rest):
        steps.append(picks.num_picks)
        return real(picks, *rest)

    monkeypatch.setattr("zoo.prune.search.global_search._step", step)
    global_imitation(layer, search=EXACT, start=0, eps=0.02, neurons=None, generator=torch.Generator(),
                     refine=lambda scale: scale)  # fmt: skip
    assert 2 < len(steps) < 2 * N
    assert max(steps) < 2 * N


@pytest.mark.parametrize("search", [PAPER, replace(PAPER, exhaustive_below=0)])
def test_a_tolerance_ends_the_papers_search_as_well(layer, monkeypatch, search):
    layer, _, _ = layer
    compared, compare = [], layer.gap_and_discrepancy

    def gap_and_discrepancy(scale):
        compared.append(compare(scale)[0])
        return compare(scale)

    monkeypatch.setattr(layer, "gap_and_discrepancy", gap_and_discrepancy)

    def run(tolerance):
        compared.clear()
        scale = global_imitation(
            layer, search=replace(search, eps_tolerance=tolerance), start=0, eps=0.05, neurons=None,
            generator=torch.Generator(),
        )  # fmt: skip
        assert compare(scale)[0] < 0.05
        return int(torch.count_nonzero(scale)), len(compared)

    (exact, all_), (near, fewer) = run(0.0), run(0.99)
    assert near >= exact
    assert fewer <= all_
    assert 0 < compared[-1] < 0.05, "it ends with one that passes"


@pytest.mark.parametrize("wrong", [
    {"exhaustive_below": -1}, {"topk_candidates": 0}, {"gradient_reuse": 1.5}, {"gradient_reuse": float("nan")},
])  # fmt: skip
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ZooError, match="The global search takes"):
        Search(**wrong)
