"""DGCNN against a compact re-implementation of the authors' public classifier."""

import copy

import pytest
import torch
import torch.nn.functional as F
from exact_search import exact
from torch import nn

from zoo.errors import ZooError
from zoo.models import build, dgcnn, from_authors, prune_group, scaled_widths
from zoo.prune import prune


def graph_feature(x, k):
    """x (B, C, N) -> [x_j - x_i, x_i] (B, 2C, N, k), every distance written out."""
    inner = -2 * torch.matmul(x.transpose(2, 1), x)
    norm = (x**2).sum(1, keepdim=True)
    index = (-norm - inner - norm.transpose(2, 1)).topk(k, dim=-1).indices
    points = x.transpose(1, 2)
    neighbours = torch.stack([cloud[rows] for cloud, rows in zip(points, index, strict=True)])  # B N k C
    centre = points.unsqueeze(2).expand_as(neighbours)
    return torch.cat([neighbours - centre, centre], 3).permute(0, 3, 1, 2)


class Authors(nn.Module):
    """The authors' classifier in its own names: conv1.0, bn1 (which is conv1.1 as well), ..., linear1, bn6, ..."""

    def __init__(self, classes, k):
        super().__init__()
        self.k = k
        for i, (into, out) in enumerate([(3, 64), (64, 64), (64, 128), (128, 256)], 1):
            self._block(i, nn.Conv2d(2 * into, out, 1, bias=False), nn.BatchNorm2d(out))
        self._block(5, nn.Conv1d(512, 1024, 1, bias=False), nn.BatchNorm1d(1024))
        self.linear1 = nn.Linear(2048, 512, bias=False)
        self.bn6 = nn.BatchNorm1d(512)
        self.linear2 = nn.Linear(512, 256)
        self.bn7 = nn.BatchNorm1d(256)
        self.linear3 = nn.Linear(256, classes)
        self.dp = nn.Dropout(0.5)

    def _block(self, i, conv, bn):
        setattr(self, f"bn{i}", bn)
        setattr(self, f"conv{i}", nn.Sequential(conv, bn, nn.LeakyReLU(0.2)))

    def forward(self, x):
        maps = []
        for i in range(1, 5):
            x = self.get_submodule(f"conv{i}")(graph_feature(x, self.k)).max(-1).values
            maps.append(x)
        x = self.conv5(torch.cat(maps, 1))
        x = torch.cat([F.adaptive_max_pool1d(x, 1).flatten(1), F.adaptive_avg_pool1d(x, 1).flatten(1)], 1)
        x = self.dp(F.leaky_relu(self.bn6(self.linear1(x)), 0.2))
        x = self.dp(F.leaky_relu(self.bn7(self.linear2(x)), 0.2))
        return self.linear3(x)


def randomise(model):
    """Batch norms as after training: gains of both signs, moved statistics."""
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                layer.weight.normal_(0.5, 1)
                layer.bias.normal_()
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
    return model.double().eval()


@pytest.fixture(scope="module")
def authors():
    torch.manual_seed(0)
    return randomise(Authors(40, k=20))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_authors_weights_give_the_authors_logits(authors, prefix):
    model = dgcnn().double().eval()
    model.load_state_dict(from_authors({prefix + key: value for key, value in authors.state_dict().items()}))
    x = torch.randn(3, 3, 50, dtype=torch.float64)
    torch.testing.assert_close(model(x), authors(x), rtol=1e-9, atol=1e-9)


def test_the_authors_weights_train_as_theirs(authors):
    ours, theirs = dgcnn(dropout=0.0, k=5).double(), copy.deepcopy(authors).train()
    theirs.k, theirs.dp.p = 5, 0.0
    ours.load_state_dict(from_authors(authors.state_dict()))
    x, label = torch.randn(4, 3, 16, dtype=torch.float64), torch.arange(4)
    for model in (ours, theirs):
        F.cross_entropy(model(x), label).backward()
    gradients = from_authors({name: parameter.grad for name, parameter in theirs.named_parameters()})
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-6, atol=1e-9)
    after = from_authors(theirs.state_dict())
    for name, value in ours.named_buffers():
        torch.testing.assert_close(value, after[name])


@pytest.mark.parametrize(
    "key",
    ["conv6.0.weight", "conv1.2.weight", "conv12.0.weight", "bn8.weight", "bn12.weight", "linear1.running_mean",
     "linear4.weight", "weight", "", "module.fc.weight"],
)  # fmt: skip
def test_an_unknown_key_is_named(authors, key):
    with pytest.raises(ZooError, match=f"^'{key}' is no tensor of the DGCNN"):
        from_authors({**authors.state_dict(), key: torch.zeros(1)})


def test_parameters_are_as_many_as_the_authors(authors):
    count = sum(parameter.numel() for parameter in dgcnn().parameters())
    assert count == sum(parameter.numel() for parameter in authors.parameters())
    assert round(count / 1e6, 2) == 1.81


@pytest.mark.parametrize("n", [20, 21, 64, 130])
def test_any_number_of_points_from_k_up_and_a_batch_of_one(n):
    model = randomise(dgcnn(num_classes=7))
    x = torch.randn(3, 3, n, dtype=torch.float64)
    y = model(x)
    assert y.shape == (3, 7)
    torch.testing.assert_close(model(x[1:2]), y[1:2], rtol=1e-9, atol=1e-9)
    order = torch.randperm(n)
    torch.testing.assert_close(model(x[:, :, order]), y, rtol=1e-9, atol=1e-9)  # a cloud is a set


@pytest.mark.parametrize("gradients", [True, False])
def test_cloud_by_cloud_is_the_chain_of_stages(gradients, monkeypatch):
    """Without gradients and with still batch norms that nobody watches conv5 sees one cloud at a time; else all."""
    torch.manual_seed(0)
    x, seen, watched = torch.randn(3, 3, 30), [], []
    for bn5, hook in ((False, False), (False, True), (True, False)):
        model = build("dgcnn", num_classes=4).eval()
        model.bn5.train(bn5)
        other = copy.deepcopy(model)
        if hook:
            model.conv5.register_forward_hook(lambda module, inputs, output: watched.append(output.shape))
        monkeypatch.setattr(model, "_embed", lambda some, run=model._embed: seen.append(len(some[0])) or run(some))
        with torch.set_grad_enabled(gradients):
            state = x
            for stage in other.stages():
                state = stage.run(state)
            seen.clear()
            found = model(x)
        torch.testing.assert_close(found, state, rtol=1e-5, atol=1e-5)
        assert torch.equal(model.bn5.running_mean, other.bn5.running_mean)
        assert seen == ([3] if gradients or bn5 or hook else [1, 1, 1])
    assert watched == [(3, 1024, 30)]


class Wrapped(nn.Module):
    """A DGCNN without stages of its own."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)

    def neuron_groups(self):
        return self.net.neuron_groups()


@pytest.mark.parametrize("method", ["combined", "repaired"])
def test_a_network_around_it_is_pruned_alike(method):
    torch.manual_seed(0)
    narrow = {"edge1": 6, "edge2": 6, "edge3": 6, "edge4": 6, "conv5": 10, "linear1": 8, "linear2": 6}
    model = build("dgcnn", num_classes=4, widths=narrow).eval()
    x = torch.randn(24, 3, 30)
    data = x, model(x).argmax(1)
    small, wrapped = (
        prune(net, data, eps=0.05, method=method, options=exact(batch_size=8))[0] for net in (model, Wrapped(model))
    )
    assert wrapped.net.widths == small.widths != model.widths
    with torch.no_grad():
        torch.testing.assert_close(wrapped(x), small(x), rtol=0, atol=1e-5)


def test_too_few_points_and_wrong_shapes():
    with pytest.raises(ZooError, match=r"19 points.*k = 20"):
        dgcnn().eval()(torch.randn(2, 3, 19))
    with pytest.raises(ZooError, match=r"\(B, 3, N\); got \(2, 30, 3\)"):
        dgcnn().eval()(torch.randn(2, 30, 3))


@pytest.mark.parametrize(
    ("w", "edges"), [(0.25, [16, 16, 32, 64]), (0.5, [32, 32, 64, 128]), (0.75, [48, 48, 96, 192])]
)
def test_width_multipliers_scale_the_edge_layers(w, edges):
    widths = scaled_widths("dgcnn", w)
    assert list(widths.values()) == [*edges, 1024, 512, 256]
    assert build("dgcnn", widths=widths).widths == widths


def test_a_pruned_network_searches_neighbours_in_what_is_left():
    """Scaled and removed neurons of an EdgeConv layer, against the whole network with its layer's output multiplied."""
    torch.manual_seed(1)
    model = randomise(dgcnn(num_classes=5, k=6))
    x = torch.randn(2, 3, 40, dtype=torch.float64)
    before = model(x)
    for name in ("edge1", "edge2", "edge3", "edge4"):
        group = next(group for group in model.neuron_groups() if group.name == name)
        kept = torch.randperm(group.size)[: group.size // 3].sort().values
        scale = torch.rand(len(kept), dtype=torch.float64) * 3
        full = torch.zeros(group.size, dtype=torch.float64).index_copy(0, kept, scale)
        hook = model.get_submodule(name).register_forward_hook(lambda _, __, y, full=full: y * full.view(1, -1, 1))
        gated = model(x)
        hook.remove()
        cut = copy.deepcopy(model)
        prune_group(next(group for group in cut.neuron_groups() if group.name == name), kept, scale)
        torch.testing.assert_close(cut(x), gated, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(gated, before)
