"""Reconstructed readers against a generic solver on explicit rows, and every n of a path against one from scratch."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from classifier import trained
from torch import nn

from zoo.models import EdgeConv, NeuronGroup, Reader, build, groups_of, mlp
from zoo.prune import Options, Repair, prune
from zoo.prune.reconstruct import ReaderReconstruction
from zoo.prune.reconstruct.least_squares import RIDGES, choose_ridge, solve
from zoo.prune.reconstruct.subset_selection import stepwise_selection, swap_refinement
from zoo.prune.reconstruct.sweep_operator import SweepTableau
from zoo.prune.statistics import ReaderMoments, fisher_matrices
from zoo.prune.statistics.input_matrix import input_matrix

DOUBLE = {"dtype": torch.float64}


def inputs(kind, generator, rows_=60, columns=12):
    """Phi (P, K) of a layer: well-behaved, or as pruning meets it: dead and repeated neurons, few rows."""
    phi = torch.randn(5 if kind == "few rows" else rows_, columns, generator=generator, **DOUBLE).relu()
    if kind == "dead and repeated":
        phi[:, 3] = 0
        phi[:, 5] = phi[:, 4]
        phi[:, 7] = 2 * phi[:, 6] + 1
    return phi


KINDS = ["plain", "dead and repeated", "few rows"]


def linear(phi, outputs=4, seed=1):
    torch.manual_seed(seed)
    layer = nn.Linear(phi.shape[1], outputs).double()
    reader = Reader.of(layer, phi.shape[1])
    moments = ReaderMoments(reader)
    moments.start_batch(len(phi))
    moments.add(phi)
    return reader, moments


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ridge", [1e-7, 1e-2, 10.0])
def test_the_closed_form_is_what_a_generic_solver_finds(kind, ridge):
    """min ||Phi_S V' + 1 b' - Y||^2 + ridge d ||V - W_S||^2 as one tall least-squares problem for lstsq."""
    phi = inputs(kind, torch.Generator().manual_seed(0))
    reader, moments = linear(phi)
    W, b = reader.weight, reader.layer.bias.detach()
    columns = torch.tensor([0, 1, 3, 4, 5, 6, 7, 10])
    part = phi[:, columns]
    d = ridge * (part - part.mean(0)).square().sum(0).mean()
    eye = torch.eye(len(columns), **DOUBLE)
    tall = torch.cat([torch.cat([part, torch.ones(len(phi), 1, **DOUBLE)], 1),
                      torch.cat([d.sqrt() * eye, torch.zeros(len(columns), 1, **DOUBLE)], 1)])  # fmt: skip
    target = torch.cat([phi @ W.t() + b, d.sqrt() * W[:, columns].t()])
    expected = torch.linalg.lstsq(tall, target, driver="gelsd").solution
    change, shift = solve(moments.all, W, columns, ridge)
    V = (W + change)[:, columns]
    tolerance = 1e-6 if ridge > 1e-6 else 1e-4  # the smallest ridge on repeated columns: 7 digits are gone
    torch.testing.assert_close(V.t(), expected[:-1], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(b + shift, expected[-1], rtol=tolerance, atol=tolerance)
    left = torch.ones(12, dtype=torch.bool)
    left[columns] = False
    assert torch.equal((W + change)[:, left], torch.zeros(4, 4, **DOUBLE))
    error = (part @ V.t() + b + shift - phi @ W.t() - b).square().sum(0)
    torch.testing.assert_close(moments.all.error(change, shift), error, rtol=1e-6, atol=1e-9)


def test_an_infinite_ridge_leaves_the_weights_and_without_fit_bias_the_bias_stays():
    phi = inputs("plain", torch.Generator().manual_seed(0))
    reader, moments = linear(phi)
    kept = torch.arange(8)
    change, _ = solve(moments.all, reader.weight, kept, 1e12)
    assert change[:, kept].abs().max() < 1e-9
    change, shift = solve(moments.all, reader.weight, kept, 1e-7, fit_bias=False)
    assert torch.equal(shift, torch.zeros(4, **DOUBLE))
    expected = torch.linalg.lstsq(phi[:, kept], phi @ reader.weight.t()).solution
    torch.testing.assert_close((reader.weight + change)[:, kept].t(), expected, rtol=1e-4, atol=1e-4)


def test_the_ridge_is_the_best_on_the_validation_rows():
    """Few rows to fit on ask for a large one, many for a small one; each is the best of all on explicit rows."""
    ridges = []
    for count in (30, 3000):
        generator = torch.Generator().manual_seed(3)
        phi = inputs("plain", generator, rows_=count, columns=20) @ torch.randn(20, 20, generator=generator, **DOUBLE)
        reader, moments = linear(phi)
        kept = torch.arange(14)
        W, b = reader.weight, reader.layer.bias.detach()
        val = torch.arange(count) % 5 == 4
        errors = []
        for ridge in RIDGES:
            change, shift = solve(moments.train, W, kept, ridge)
            y = phi[val] @ (W + change).t() + b + shift
            errors.append(float((y - phi[val] @ W.t() - b).square().sum()))
        ridges.append(choose_ridge(moments.train, moments.val, W, kept))
        assert errors[RIDGES.index(ridges[-1])] == pytest.approx(min(errors))
        assert choose_ridge(moments.train, moments.val, W, kept, start=RIDGES[0]) == ridges[-1]
    assert ridges[0] > ridges[1]


READERS = {
    "linear": (nn.Linear(6, 4), torch.arange(6).unsqueeze(1), (11, 6)),
    "3x3, stride 2": (nn.Conv2d(5, 4, 3, padding=1, stride=2), torch.arange(5).unsqueeze(1), (11, 5, 6, 7)),
    "a block of a concatenation": (nn.Conv1d(9, 4, 1), 3 + torch.arange(5).unsqueeze(1), (11, 9, 7)),
    "EdgeConv": (EdgeConv(4, 6, k=3), torch.arange(4).unsqueeze(1), (11, 4, 10)),
}


@pytest.mark.parametrize("name", READERS)
def test_moments_are_those_of_the_explicit_rows_and_every_fifth_sample_is_for_validation(name):
    module, channels, shape = READERS[name]
    reader = Reader(module.double().eval(), channels)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), **DOUBLE)
    moments = ReaderMoments(reader)
    for batch in torch.split(x, 4):
        moments.start_batch(len(batch))
        moments.add(batch)
    val = torch.arange(len(x)) % 5 == 4
    for part, chosen in ((moments.train, ~val), (moments.val, val), (moments.all, val | ~val)):
        phi = input_matrix(reader, x[chosen])
        torch.testing.assert_close(part.raw(), phi.t() @ phi)
        torch.testing.assert_close(part.mean(), phi.mean(0))
        assert part.rows == len(phi)
        centred = phi - phi.mean(0)
        torch.testing.assert_close(part.centred(), centred.t() @ centred)


def problem(kind, m, seed, N=8, outputs=3, ridge=1e-5):
    """A quadratic problem, its error with no neuron, and the error of any set from its definition: the least that
    ||Phi_S V' - Phi W'||^2 + ridge ||V - W_S||^2 can be."""
    generator = torch.Generator().manual_seed(seed)
    phi = inputs(kind, generator, columns=N * m)
    W = torch.randn(outputs, N * m, generator=generator, **DOUBLE)
    H = phi.t() @ phi
    strength = ridge * H.diagonal().mean()
    A = H + strength * torch.eye(N * m, **DOUBLE)
    penalty = strength * W.square().sum(0).view(N, m).sum(1)

    def error(inside):
        kept = inside.repeat_interleave(m)
        used = torch.cat([phi[:, kept], strength.sqrt() * torch.eye(int(kept.sum()), **DOUBLE)])
        target = torch.cat([phi @ W.t(), strength.sqrt() * W[:, kept].t()])
        return float((target - used @ torch.linalg.lstsq(used, target, driver="gelsd").solution).square().sum())

    return (A, A @ W.t(), m, penalty), error(torch.zeros(N, dtype=torch.bool)), error


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_n_of_a_path_is_the_solution_from_scratch_and_every_step_the_best_of_all(kind, m, direction):
    case, error_of_none, error = problem(kind, m, 0)
    subsets = stepwise_selection([case], error_of_none, direction)
    expected = [error(subsets.kept(n)) for n in range(1, 9)]
    assert subsets.errors[1:].tolist() == pytest.approx(expected, abs=1e-6 * error_of_none)
    for n in range(1, 8):
        before, after = subsets.kept(n - 1 if direction == "forward" else n + 1), subsets.kept(n)
        others = [before ^ (torch.arange(8) == i) for i in range(8) if bool(before[i]) == (direction == "backward")]
        assert error(after) <= min(error(other) for other in others if other.any()) + 1e-6 * error_of_none


@pytest.mark.parametrize("m", [1, 2])
def test_moving_in_and_out_again_is_the_identity_and_many_at_once_are_one_by_one(m):
    case, _, _ = problem("plain", m, 1)
    one, many = SweepTableau(*case), SweepTableau(*case)
    inside = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0], dtype=torch.bool)
    many.sweep_in(inside)
    for i in inside.nonzero().flatten().tolist():
        one.sweep(i)
    torch.testing.assert_close(one.T, many.T)
    torch.testing.assert_close(one.U, many.U)
    for i in inside.nonzero().flatten().tolist():
        one.sweep(i)
    torch.testing.assert_close(one.T, case[0])
    torch.testing.assert_close(one.U, case[1])


def test_swaps_end_where_none_of_the_least_needed_helps_and_the_gain_is_that_of_the_error():
    helped = 0
    for seed in range(12):
        case, _, error = problem("plain", 1, seed, N=10)
        start = torch.arange(10) < 4
        kept, gained = swap_refinement([case], start)
        assert int(kept.sum()) == 4
        assert error(start) - error(kept) == pytest.approx(gained, rel=1e-6, abs=1e-9)
        least = min(kept.nonzero().flatten().tolist(), key=lambda i: error(kept ^ (torch.arange(10) == i)))
        rest = kept ^ (torch.arange(10) == least)
        best = min(error(rest ^ (torch.arange(10) == i)) for i in range(10) if not rest[i])
        assert error(kept) <= best + 1e-9
        helped += gained > 0
    assert helped >= 10


def case_of(weights):
    """A group with two readers: a block of a concatenation behind batch norm, and a linear map with a bias."""
    torch.manual_seed(0)
    x = torch.randn(50, 9, 4, **DOUBLE).relu()
    first, second = nn.Conv1d(9, 5, 1, bias=False).double(), nn.Linear(6, 3).double()
    norm = nn.BatchNorm1d(5).double().eval()
    readers = (Reader.of(first, 6, offset=2, norm=norm), Reader.of(second, 6))
    group = NeuronGroup("g", (), readers)
    pooled = x[:, 2:8].mean(2)
    moments = [ReaderMoments(reader) for reader in readers]
    for statistics, inputs_ in zip(moments, (x, pooled), strict=True):
        statistics.start_batch(len(inputs_))
        statistics.add(inputs_)
    gammas = [torch.randn(20, n, **DOUBLE) for n in (5, 3)]
    gammas = [g.t() @ g for g in gammas] if weights else None
    return group, ReaderReconstruction(group, moments, gammas, 50), gammas, (x, pooled), norm


@pytest.mark.parametrize("weights", [True, False])
def test_the_error_of_a_path_is_that_of_the_solved_readers_on_the_rows(weights):
    """With Gamma in nats a sample, else in parts of each reader's energy; columns of other groups are solved too."""
    group, reconstruction, gammas, data, _ = case_of(weights)
    path = reconstruction.path("backward", swap=False)
    for n in range(1, 7):
        kept = path.scale(n) > 0
        total = 0.0
        for k, reader in enumerate(group.readers):
            phi = input_matrix(reader, data[k])
            columns = torch.ones(phi.shape[1], dtype=torch.bool)
            columns[reader.all_columns[~kept].flatten()] = False
            used = torch.cat([phi[:, columns], torch.ones(len(phi), 1, **DOUBLE)], 1)
            y = phi @ reader.weight.t()
            residual = y - used @ torch.linalg.lstsq(used, y).solution
            gamma = torch.eye(len(reader.weight), **DOUBLE) if gammas is None else gammas[k]
            error = float(((residual.t() @ residual) * gamma).sum())
            total += 0.5 / 50 * error if weights else error / float((y - y.mean(0)).square().sum())
        assert path.local_error(n) == pytest.approx(total, rel=0.1, abs=1e-6 + 0.02 * path.local_error(1))


def test_a_reconstructed_reader_is_closer_and_its_constant_goes_into_bias_or_batch_norm():
    group, reconstruction, _, (x, pooled), norm = case_of(False)
    before = [norm(group.readers[0].module(x)), group.readers[1].module(pooled)]
    kept = torch.tensor([1, 1, 0, 1, 0, 1], dtype=torch.bool)
    state = [tensor.clone() for tensor in (*group.readers[0].module.parameters(), norm.running_mean)]
    gated, gated_pooled = x.clone(), pooled * kept
    gated[:, 2:8] *= kept.view(1, 6, 1)
    with reconstruction.applied(kept), torch.no_grad():
        after = [norm(group.readers[0].module(gated)), group.readers[1].module(gated_pooled)]
        assert torch.equal(group.readers[0].weight[:, 2:8][:, ~kept], torch.zeros(5, 2, **DOUBLE))
    plain = [norm(group.readers[0].module(gated)), group.readers[1].module(gated_pooled)]
    for a, b, c in zip(before, after, plain, strict=True):
        assert (a - b).square().sum() < 0.8 * (a - c).square().sum()
        dims = (0, 2) if a.dim() == 3 else (0,)
        torch.testing.assert_close(a.mean(dims), b.mean(dims))
    now = (*group.readers[0].module.parameters(), norm.running_mean)
    assert all(torch.equal(a, b) for a, b in zip(state, now, strict=True))


def test_the_gram_of_the_reconstruction_is_that_of_the_explicit_contributions():
    group, reconstruction, gammas, data, _ = case_of(True)
    total = torch.zeros(6, 6, **DOUBLE)
    for k, reader in enumerate(group.readers):
        phi = input_matrix(reader, data[k])
        c = [phi[:, reader.columns(i)] @ reader.weight[:, reader.columns(i)].t() for i in range(6)]
        for i, j in itertools.product(range(6), range(6)):
            total[i, j] += 0.5 / 50 * ((c[i].t() @ c[j]) * gammas[k]).sum()
    torch.testing.assert_close(reconstruction.gram_matrix(), total)


def test_gamma_is_the_second_moment_of_the_gradients():
    """With true labels alone: the sum over positions of g g', the mean over samples, sample by sample."""
    torch.manual_seed(0)
    model = build("mobilenet_v3_small", num_classes=4).eval().requires_grad_(False)
    x, y = torch.randn(3, 3, 32, 32), torch.tensor([0, 3, 1])
    groups = groups_of(model)[2:4]
    found = fisher_matrices(
        model, groups, [x[:2], x[2:]], torch.Generator(), labels=[y[:2], y[2:]], label_weight=1.0
    )
    for group in groups:
        for reader, gamma in zip(group.readers, found[group.name], strict=True):
            seen = []
            handle = reader.module.register_forward_hook(lambda m, i, o, to=seen: (o.retain_grad(), to.append(o))[1])
            expected = torch.zeros_like(gamma)
            for k in range(3):
                seen.clear()
                loss = F.cross_entropy(model(x[k : k + 1].clone().requires_grad_()), y[k : k + 1])
                loss.backward()
                g = seen[0].grad.flatten(2).squeeze(0)
                expected += (g @ g.t()).double() / 3
            handle.remove()
            torch.testing.assert_close(gamma, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_labels_drawn_from_the_network_give_the_fisher_information():
    """Of a linear layer at the output: diag(p) - p p', the mean over samples; and 2 I for the squared error."""
    torch.manual_seed(0)
    model = mlp(in_features=5, num_classes=3, widths={"hidden1": 6, "hidden2": 6}).eval()
    x = torch.randn(40, 5)
    p = model(x).softmax(1).detach().double()
    expected = (torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)).mean(0)
    group = groups_of(model)[1]
    many = fisher_matrices(model, [group], [x] * 200, torch.Generator().manual_seed(0))
    torch.testing.assert_close(many["hidden2"][0], expected, rtol=0, atol=0.01)
    squared = fisher_matrices(model, [group], [x] * 200, torch.Generator().manual_seed(0), kind="squared_error")
    torch.testing.assert_close(squared["hidden2"][0], 2 * torch.eye(3, **DOUBLE), rtol=0, atol=0.06)


def test_a_pass_ends_with_the_solution_on_what_is_kept():
    """One group: the cut network's next layer is the ridge solution on the kept neurons, from explicit rows."""
    model, (x, y) = trained(samples=300)
    before = copy.deepcopy(model.state_dict())
    small, report = prune(model, (x, y), widths={"hidden2": 9}, method="repaired")
    assert small.widths == {"hidden1": 40, "hidden2": 9}
    assert report.groups[1].winner == "repaired"
    kept = [int((model.hidden2.weight == row).all(1).nonzero()) for row in small.hidden2.weight]
    model.requires_grad_(False), small.requires_grad_(False)
    hidden = torch.relu(model.hidden2(torch.relu(model.hidden1(x)))).double()
    phi = torch.cat([hidden[:, kept], torch.ones(300, 1, **DOUBLE)], 1)
    y_ = hidden @ model.out.weight.double().t() + model.out.bias.double()
    best = phi @ torch.linalg.lstsq(phi, y_).solution
    reconstructed = hidden[:, kept] @ small.out.weight.double().t() + small.out.bias.double()
    scaled = hidden[:, kept] @ model.out.weight.double()[:, kept].t() + model.out.bias.double()
    least = float((best - y_).square().sum())
    assert float((reconstructed - y_).square().sum()) == pytest.approx(least, rel=0.05)
    assert least < 0.2 * float((scaled - y_).square().sum())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_reconstruction_improves_every_choice_and_its_own_choice_is_best():
    """The same widths: repaired readers under local imitation's choice, L1's, and their own choice."""
    model, (x, y) = trained(samples=300)
    widths = {"hidden1": 25, "hidden2": 15}

    def discrepancy(method, repair=None):
        report = prune(model, (x, y), widths=widths, method=method, options=Options(repair=repair))[1]
        return report.steps[0].discrepancy

    on = Repair(weighting="none")
    for method in ("local", "l1", "gfs"):
        assert discrepancy(method, on) < 0.5 * discrepancy(method)
    best = min(discrepancy(method, on) for method in ("local", "l1", "gfs"))
    assert discrepancy("repaired", on) < best
