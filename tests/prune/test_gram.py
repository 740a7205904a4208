"""G against the explicit contributions c_i of every neuron to its readers' outputs."""

import pytest
import torch
from torch import nn

from zoo.models import EdgeConv, NeuronGroup, Reader, dgcnn, groups_of, mobilenet_v3_small
from zoo.prune.statistics import gram_matrix
from zoo.prune.statistics.gram import gram_of
from zoo.prune.statistics.input_matrix import input_matrix, iter_rows, iter_sampled_rows


def explicit(reader, x):
    """G (N, N) from c_i (P, O) written out one by one."""
    phi = input_matrix(reader, x).double()
    W = reader.layer.weight.detach().flatten(1).double()
    c = [phi[:, reader.columns(i)] @ W[:, reader.columns(i)].t() for i in range(len(reader.channels))]
    return torch.stack([torch.stack([(a * b).sum() for b in c]) for a in c])


READERS = {
    "linear": (nn.Linear(6, 4), torch.arange(6).unsqueeze(1), (5, 6)),
    "linear on a flattened map": (nn.Linear(12, 4), torch.arange(12).view(3, 4), (5, 12)),
    "linear on [max, mean]": (nn.Linear(8, 3), torch.stack([torch.arange(4), 4 + torch.arange(4)], 1), (5, 8)),
    "linear on positions": (nn.Linear(6, 4), torch.arange(6).unsqueeze(1), (2, 7, 6)),
    "a block of a concatenation": (nn.Conv1d(9, 4, 1), 3 + torch.arange(5).unsqueeze(1), (2, 9, 7)),
    "1x1, stride 2": (nn.Conv2d(5, 4, 1, stride=2), torch.arange(5).unsqueeze(1), (2, 5, 6, 7)),
    "3x3": (nn.Conv2d(5, 4, 3, padding=1, stride=2), torch.arange(5).unsqueeze(1), (2, 5, 6, 7)),
    "3x1, dilated": (nn.Conv2d(5, 4, (3, 1), dilation=2), torch.arange(5).unsqueeze(1), (2, 5, 8, 3)),
    "conv1d of 3": (nn.Conv1d(5, 4, 3, padding=1), torch.arange(5).unsqueeze(1), (2, 5, 9)),
    "EdgeConv": (EdgeConv(4, 6, k=3), torch.arange(4).unsqueeze(1), (2, 4, 10)),
}


@pytest.fixture(params=READERS)
def case(request):
    module, channels, shape = READERS[request.param]
    generator = torch.Generator().manual_seed(0)
    return Reader(module.double().eval(), channels), torch.randn(shape, generator=generator, dtype=torch.float64)


def test_gram_is_the_explicit_one(case):
    reader, x = case
    group = NeuronGroup("g", (), (reader,))
    G, _ = gram_matrix(group, [lambda: reader.module(x)])
    expected = explicit(reader, x)
    torch.testing.assert_close(G, expected / expected.sum(), rtol=1e-9, atol=1e-12)


def test_rows_times_weight_is_what_the_reader_computes(case):
    """Phi W^T is the layer's own output without its bias, row by row."""
    reader, x = case
    edges = isinstance(reader.module, EdgeConv)
    output = reader.layer(reader.module.edges(x)) if edges else reader.module(x)
    if reader.layer.bias is not None:
        shape = [1] * output.dim()
        shape[-1 if isinstance(reader.module, nn.Linear) else 1] = -1
        output = output - reader.layer.bias.view(shape)
    if not isinstance(reader.module, nn.Linear):
        output = output.movedim(1, -1)
    product = input_matrix(reader, x) @ reader.layer.weight.flatten(1).t()
    torch.testing.assert_close(product, output.reshape(-1, output.shape[-1]))


def test_chunks_are_the_rows(case, monkeypatch):
    reader, x = case
    all_rows = input_matrix(reader, x)
    monkeypatch.setattr("zoo.prune.statistics.input_matrix.CHUNK_ELEMENTS", 1)
    parts = list(iter_rows(reader, x))
    assert len(parts) == len(x)
    assert torch.equal(torch.cat(parts), all_rows)


def test_batches_add_up_and_readers_add_their_normalised_statistics():
    widths = {"edge1": 6, "edge2": 5, "edge3": 4, "edge4": 3, "conv5": 8}
    model = dgcnn(num_classes=4, k=4, widths=widths).double().eval()
    group = groups_of(model)[0]
    x = torch.randn(6, 3, 12, dtype=torch.float64)
    seen = {}
    handles = [
        r.module.register_forward_pre_hook(lambda m, args, r=r: seen.setdefault(r, args[0])) for r in group.readers
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    expected = sum(explicit(r, seen[r]) / explicit(r, seen[r]).sum() for r in group.readers)
    G, _ = gram_matrix(group, [lambda: model(x[:4]), lambda: model(x[4:])])
    torch.testing.assert_close(G, expected, rtol=1e-9, atol=1e-12)
    assert len(group.readers) == 2


def test_the_energy_of_squeeze_excitation_groups_counts_both_readers():
    model = mobilenet_v3_small(num_classes=3).eval()
    group = groups_of(model)[0]
    with torch.no_grad():
        G, _ = gram_matrix(group, [lambda: model(torch.randn(2, 3, 32, 32))])
    assert len(group.readers) == 2
    assert G.sum().item() == pytest.approx(2)


CONVS = {
    "3 x 3": (nn.Conv2d(4, 3, 3, padding=1), (5, 4, 9, 8)),
    "3 x 3, stride 2": (nn.Conv2d(4, 3, 3, stride=2, padding=1), (5, 4, 9, 8)),
    "2 x 3, dilated, no padding": (nn.Conv2d(4, 3, (2, 3), dilation=(2, 1)), (5, 4, 9, 8)),
}


@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("chunk", [1, 10**9])
def test_sampled_positions_are_rows_and_none_is_drawn_twice(name, chunk, monkeypatch):
    monkeypatch.setattr("zoo.prune.statistics.input_matrix.CHUNK_ELEMENTS", chunk)
    conv, shape = CONVS[name]
    x = torch.randn(shape, dtype=torch.float64)
    reader = Reader.of(conv.double(), 4)
    halves = list(iter_sampled_rows(reader, x, 0.7, torch.Generator().manual_seed(0)))
    assert all(len(first) == len(second) for first, second in halves)
    phi = torch.cat([half for pair in halves for half in pair])
    all_rows = input_matrix(reader, x)
    assert 0.5 * len(all_rows) < len(phi) < 0.9 * len(all_rows)
    drawn = {tuple(row) for row in phi.tolist()}
    assert drawn < {tuple(row) for row in all_rows.tolist()}
    assert len(drawn) == len(phi)


def test_a_map_of_few_positions_is_used_whole():
    conv = nn.Conv2d(6, 5, 3, padding=1)
    group = NeuronGroup("g", (), (Reader.of(conv, 6),))
    for side in (1, 2):
        x = torch.randn(9, 6, side, side)
        G, error = gram_matrix(group, [lambda x=x: conv(x)], fraction=0.25 if side == 1 else 0.9)
        assert error is None
        torch.testing.assert_close(G, gram_matrix(group, [lambda x=x: conv(x)])[0])


def test_the_standard_error_for_sampled_positions_is_that_of_many_draws():
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 5, 3, padding=1)
    x = torch.nn.functional.avg_pool2d(torch.randn(4, 6, 40, 40), 5, 1).relu()
    group = NeuronGroup("g", (), (Reader.of(conv, 6),))
    truth, no_error = gram_matrix(group, [lambda: conv(x)])
    assert no_error is None
    estimates, errors = [], []
    for seed in range(40):
        G, error = gram_matrix(group, [lambda: conv(x)], fraction=0.1, generator=torch.Generator().manual_seed(seed))
        estimates.append(error**2)
        errors.append(float((G - truth).norm() / truth.norm()) ** 2)
    assert 0.6 < (sum(estimates) / sum(errors)) ** 0.5 < 1.6
    assert sum(errors) / 40 > 1e-6


def test_a_reader_of_single_columns_is_never_sampled():
    linear = nn.Linear(6, 3)
    x = torch.randn(10, 6)
    group = NeuronGroup("g", (), (Reader.of(linear, 6),))
    G, error = gram_matrix(group, [lambda: linear(x)], fraction=0.1)
    assert error is None
    torch.testing.assert_close(G, gram_matrix(group, [lambda: linear(x)])[0])


def test_blocks_above_the_diagonal_and_their_transposes_are_the_gram_matrix(monkeypatch):
    monkeypatch.setattr("zoo.prune.statistics.gram.BLOCKED_FROM", 4)
    for K in (4, 7, 8, 33):
        phi = torch.randn(20, K, dtype=torch.float64)
        torch.testing.assert_close(gram_of(phi), phi.t() @ phi)
