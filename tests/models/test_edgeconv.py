"""The fast EdgeConv against the written-out one and against torch_geometric's: values, gradients, statistics."""

import copy
import importlib
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.errors import ZooError
from zoo.models import EdgeConv, edgeconv
from zoo.models.edgeconv import edge_conv_on_edges, neighbour_max
from zoo.models.point_ops import knn


def layer_and_cloud(*, batch=3, channels=5, out=8, n=14, k=4, dtype=torch.float64):
    """A layer whose batch norm has positive and negative gains and moved statistics, and a cloud with gradient."""
    torch.manual_seed(0)
    layer = EdgeConv(channels, out, k=k).to(dtype)
    with torch.no_grad():
        layer.bn.weight.copy_(torch.linspace(-1.5, 2.3, out))
        layer.bn.bias.normal_()
        layer.bn.running_mean.normal_()
        layer.bn.running_var.uniform_(0.5, 2)
    return layer, torch.randn(batch, channels, n, dtype=dtype, requires_grad=True)


def outcome(layer, forward, x):
    """Everything that a forward and a backward pass leave behind."""
    layer = copy.deepcopy(layer)
    x = x.detach().clone().requires_grad_()
    y = forward(layer, x)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype))
    gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {"y": y.detach(), "x": x.grad, **gradients, **dict(layer.named_buffers())}


def assert_same(layer, x, names=None):
    fast, slow = outcome(layer, EdgeConv.__call__, x), outcome(layer, edge_conv_on_edges, x)
    assert fast.keys() == slow.keys() >= {"y", "x", "conv.weight", "bn.weight", "bn.bias", "bn.running_var"}
    for name in names or fast:
        torch.testing.assert_close(fast[name], slow[name], rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "size",
    [{}, {"batch": 1}, {"k": 14}, {"k": 1}, {"channels": 1, "out": 3}, {"batch": 1, "n": 2, "k": 2}],
    ids=["usual", "batch of one", "k = N", "k = 1", "one channel", "two points"],
)
def test_fast_equals_written_out(size, training):
    layer, x = layer_and_cloud(**size)
    assert (layer.bn.weight < 0).any()
    assert_same(layer.train(training), x)


@pytest.mark.parametrize("training", [True, False])
def test_fast_equals_written_out_without_gradient(training):
    layer, x = layer_and_cloud()
    slow = copy.deepcopy(layer).train(training)
    with torch.no_grad():
        torch.testing.assert_close(layer.train(training)(x), edge_conv_on_edges(slow, x), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_a_gain_of_zero(training):
    """All edges tie there: the values agree, and the gain's gradient is that from above, where a maximum has two."""
    layer, x = layer_and_cloud()
    zero = [0, 3]
    with torch.no_grad():
        layer.bn.weight[zero] = 0
    layer.train(training)
    assert_same(layer, x, ["y", "x", "conv.weight", "bn.bias", "bn.running_mean", "bn.running_var"])
    above = copy.deepcopy(layer)
    with torch.no_grad():
        above.bn.weight[zero] = 1e-8
    fast = outcome(layer, EdgeConv.__call__, x)["bn.weight"]
    torch.testing.assert_close(fast, outcome(above, edge_conv_on_edges, x)["bn.weight"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
def test_running_statistics_over_several_batches(momentum):
    layer, _ = layer_and_cloud()
    layer.bn.reset_running_stats()
    layer.bn.momentum = momentum
    slow = copy.deepcopy(layer)
    for _ in range(3):
        x = torch.randn(2, 5, 9, dtype=torch.float64)
        layer(x)
        edge_conv_on_edges(slow, x)
    for name, value in slow.bn.named_buffers():
        torch.testing.assert_close(layer.bn.get_buffer(name), value, rtol=1e-10, atol=1e-12)
    assert int(layer.bn.num_batches_tracked) == 3


def test_float32_stays_near_float64_where_the_features_lie_far_from_zero():
    layer, x = layer_and_cloud(channels=16, out=32, n=64, k=8, dtype=torch.float32)
    x = x.detach() + 30
    truth = edge_conv_on_edges(copy.deepcopy(layer).double(), x.double())
    torch.testing.assert_close(layer(x).double(), truth, rtol=0, atol=1e-4)


def test_more_neighbours_than_a_byte_can_count():
    layer, x = layer_and_cloud(batch=1, n=300, k=300)
    assert_same(layer.train(), x)


@pytest.mark.parametrize("numbers", [1, 6 * 4, 6 * 15, 10**6], ids=["a row", "four rows", "all", "more"])
def test_neighbour_max_is_a_maximum_over_rows(numbers, monkeypatch):
    monkeypatch.setattr(edgeconv, "BLOCK", numbers)
    x = torch.randn(20, 6, dtype=torch.float64, requires_grad=True)
    rows = torch.randint(20, (15, 4))
    weight = torch.randn(15, 6, dtype=torch.float64)
    (fast,) = torch.autograd.grad((neighbour_max(x, rows) * weight).sum(), x)
    (slow,) = torch.autograd.grad((x[rows].max(1).values * weight).sum(), x)
    torch.testing.assert_close(fast, slow)
    assert torch.equal(neighbour_max(x.detach(), rows), x[rows].amax(1))


def test_fewer_points_than_neighbours():
    with pytest.raises(ZooError, match=r"3 points.*k = 4"):
        EdgeConv(2, 5, k=4)(torch.randn(1, 2, 3))


def test_what_a_reader_of_neurons_sees():
    """input_matrix times the weight is the convolution of every edge, and neuron i is columns i and C + i."""
    layer, x = layer_and_cloud()
    y = layer.conv(layer.edges(x))  # B O N k
    rows = layer.input_matrix(x) @ layer.weight_layer.weight.flatten(1).t()
    torch.testing.assert_close(rows.view(3, 14, 4, 8).permute(0, 3, 1, 2), y)
    assert layer.column_index(torch.tensor([[0], [3]])).tolist() == [[0, 5], [3, 8]]


def test_counted_macs_are_those_of_the_convolution_over_edges():
    layer, x = layer_and_cloud()
    edges = layer.edges(x)
    macs = edges[:, 0].numel() * layer.conv.in_channels * layer.conv.out_channels
    assert layer.count_macs(x) == (macs, layer.conv(edges).numel())


@pytest.fixture(scope="module")
def geometric():
    with warnings.catch_warnings():  # its import, not ours, warns about torch.jit
        warnings.simplefilter("ignore")
        return importlib.import_module("torch_geometric.nn")


@pytest.mark.parametrize("training", [True, False])
def test_same_as_torch_geometric(geometric, training):
    """torch_geometric's EdgeConv maps [x_i, x_j - x_i], in that order, over a list of edges j -> i."""
    layer, x = layer_and_cloud()
    layer.train(training)
    B, C, N = x.shape
    linear, bn = nn.Linear(2 * C, 8, bias=False).double(), nn.BatchNorm1d(8).double()
    theirs = geometric.EdgeConv(nn.Sequential(linear, bn, nn.LeakyReLU(0.2)), aggr="max").train(training)
    weight = layer.conv.weight.detach().flatten(1)  # only now: EdgeConv resets what it is given
    linear.weight = nn.Parameter(torch.cat([weight[:, C:], weight[:, :C]], 1))
    bn.load_state_dict(layer.bn.state_dict())
    source = (knn(x, 4) + N * torch.arange(B).view(B, 1, 1)).flatten()
    target = torch.arange(B * N).repeat_interleave(4)
    y = theirs(x.transpose(1, 2).reshape(B * N, C), torch.stack([source, target]))
    torch.testing.assert_close(layer(x), y.view(B, N, 8).transpose(1, 2), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(layer.bn.running_var, bn.running_var)
    assert not torch.equal(y, F.relu(y))  # the slope of 0.2 has been at work


def test_second_moments_are_those_of_the_written_out_edges() -> None:
    torch.manual_seed(0)
    layer, x = EdgeConv(5, 7, k=4).eval(), torch.randn(3, 5, 30) + 2
    edges = layer.input_matrix(x).double()
    for centre in (torch.zeros(10, dtype=torch.float64), edges.mean(0)):
        rows = torch.cat([edges - centre, torch.ones(len(edges), 1, dtype=torch.float64)], 1)
        torch.testing.assert_close(layer.second_moments(x, centre), rows.t() @ rows, rtol=1e-6, atol=1e-4)
