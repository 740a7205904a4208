"""Keeping some neurons: the smaller network gives the logits of the larger one in which the others are not read."""

import copy

import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.models import NeuronGroup, Reader, build, groups_of, prune_group, widths_of
from zoo.models.surgery import set_widths

# As in tests/test_groups.py: k = N, so that only the readers' weights matter.
CASES = {
    "dgcnn": ("dgcnn", {"num_classes": 5, "k": 24}, (2, 3, 24)),
    "mlp": ("mlp", {"num_classes": 3}, (6, 10)),
    "mobilenet_v2": ("mobilenet_v2", {"num_classes": 5}, (1, 3, 32, 32)),
    "mobilenet_v3_large": ("mobilenet_v3_large", {"num_classes": 5}, (1, 3, 32, 32)),
    "mobilenet_v3_small": ("mobilenet_v3_small", {"num_classes": 5}, (1, 3, 32, 32)),
    "pointnet": ("pointnet", {"num_classes": 5}, (2, 3, 64)),
    "pointnet2": ("pointnet2", {"num_classes": 5}, (2, 3, 40)),
    "resnet34": ("resnet34", {"num_classes": 5}, (1, 3, 32, 32)),
    "vgg11": ("vgg11", {"num_classes": 5}, (1, 3, 32, 32)),
    "vgg11 full": ("vgg11", {"num_classes": 5, "head": "full"}, (1, 3, 64, 64)),
}
SMALL = {"features.11": 96, "features.15": 80, "features.18": 72, "features.22": 64, "features.25": 56} | {
    "classifier.0": 48,
    "classifier.3": 40,
}


SLOW = ("mobilenet_v2", "mobilenet_v3_large", "vgg11 full")  # as mobilenet_v3_small and vgg11


@pytest.fixture(
    scope="module", params=[pytest.param(case, marks=[pytest.mark.slow] * (case in SLOW)) for case in CASES]
)
def case(request):
    """arch, options, a network in float64 with batch norms as after training, an input."""
    arch, options, shape = CASES[request.param]
    torch.manual_seed(1)
    model = build(arch, **options, widths=SMALL if "head" in options else None).double()
    norms = [layer for layer in model.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.momentum = 1.0
            norm.weight.uniform_(0.5, 1.5).mul_(torch.where(torch.rand(len(norm.weight)) < 0.2, -1.0, 1.0))
            norm.bias.normal_(0, 0.3)
        model.train()(torch.rand((8, *shape[1:]), dtype=torch.float64))  # so that no signal dies on its way
        for norm, old in zip(norms, momenta, strict=True):
            norm.momentum = old
            norm.running_mean.add_(0.3 * torch.randn_like(norm.running_mean) * norm.running_var.sqrt())
    return arch, options, model.eval(), torch.rand(shape, dtype=torch.float64)


def some(group):
    return torch.randperm(group.size)[: max(1, group.size // 3)].sort().values


@torch.no_grad()
def scale_columns(group, full):
    """Every reader's columns of neuron i, times full[i]."""
    for reader in group.readers:
        flat = reader.layer.weight.flatten(1)
        for columns, scale in zip(reader.all_columns, full, strict=True):
            flat[:, columns] *= scale


def find(model, name):
    return next(group for group in groups_of(model) if group.name == name)


def assert_close(a, b, name):
    assert (a - b).abs().max() <= 1e-11 * (1 + b.abs().max()), name


@torch.no_grad()
def test_one_group_at_a_time_with_scales(case):
    """In the whole network the neurons' columns are scaled or zeroed, in the other they are kept or gone."""
    _, _, model, x = case
    before, widths = model(x), model.widths
    for group in groups_of(model):
        kept = some(group)
        scale = 0.3 + torch.rand(len(kept), dtype=torch.float64)
        cut = copy.deepcopy(model)
        prune_group(find(cut, group.name), kept, scale)
        assert cut.widths == {**widths, group.name: len(kept)}
        weights = [reader.layer.weight.clone() for reader in group.readers]
        scale_columns(group, torch.zeros(group.size).double().index_copy(0, kept, scale))
        gated = model(x)
        for reader, weight in zip(group.readers, weights, strict=True):
            reader.layer.weight.copy_(weight)
        assert_close(cut(x), gated, group.name)
        assert not torch.allclose(gated, before, rtol=1e-7, atol=0), group.name
    assert torch.equal(model(x), before)


@torch.no_grad()
def test_all_groups_at_once_and_the_result_is_the_same_class_with_other_widths(case):
    arch, options, model, x = case
    whole, cut = copy.deepcopy(model), copy.deepcopy(model)
    chosen = {group.name: some(group) for group in groups_of(model)}
    for name, kept in chosen.items():
        scale_columns(find(whole, name), torch.zeros(widths_of(model)[name]).double().index_fill(0, kept, 1))
        prune_group(find(cut, name), kept)
    assert_close(cut(x), whole(x), "all")
    widths = {name: len(kept) for name, kept in chosen.items()}
    assert cut.widths == widths
    again = build(arch, **options, widths=widths).double().eval()
    assert str(again) == str(cut)  # sizes that modules state agree with their weights
    again.load_state_dict(cut.state_dict(), strict=True)
    assert torch.equal(again(x), cut(x))
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in model.parameters())


def test_the_order_of_the_kept_does_not_matter():
    torch.manual_seed(0)
    model, x = build("mlp").eval(), torch.randn(5, 10)
    one, other = copy.deepcopy(model), copy.deepcopy(model)
    prune_group(find(one, "hidden1"), torch.tensor([3, 8, 40]), torch.tensor([1.0, 2.0, 3.0]))
    prune_group(find(other, "hidden1"), torch.tensor([40, 3, 8]), torch.tensor([3.0, 1.0, 2.0]))
    assert torch.equal(one(x), other(x))


@pytest.mark.parametrize("kept", [[], [1, 1], [-1, 2], [100]])
def test_what_cannot_be_kept_is_refused_and_nothing_changes(kept):
    model = build("mlp")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ZooError, match="hidden1: keep 1 to 100 different neurons"):
        prune_group(find(model, "hidden1"), torch.tensor(kept, dtype=torch.long))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_narrow_keeps_the_first_neurons_and_what_stays_frozen_stays_frozen():
    torch.manual_seed(0)
    model = build("mlp")
    model.hidden1.weight.requires_grad_(False)
    weight = model.hidden2.weight.detach().clone()
    set_widths(model, {"hidden2": 7, "hidden1": 30})
    assert widths_of(model) == {"hidden1": 30, "hidden2": 7}
    assert torch.equal(model.hidden2.weight, weight[:7, :30])
    assert not model.hidden1.weight.requires_grad
    assert model.hidden2.weight.requires_grad
    assert (model.hidden2.in_features, model.hidden2.out_features, model.out.in_features) == (30, 7, 7)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"hidden1": 5, "hiden2": 5}, "no neuron group 'hiden2'; did you mean hidden2"),
        ({"hidden1": 5, "hidden2": 0}, "hidden2 can have 1 to 100 neurons, not 0"),
        ({"hidden1": 5, "hidden2": 101}, "hidden2 can have 1 to 100 neurons, not 101"),
    ],
)
def test_bad_widths_are_refused_and_nothing_changes(widths, message):
    model = build("mlp")
    with pytest.raises(ZooError, match=message):
        set_widths(model, widths)
    assert widths_of(model) == {"hidden1": 100, "hidden2": 100}


def test_a_depthwise_writer_shrinks_and_another_grouped_one_is_refused():
    depthwise, norm, reader = nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4, affine=False), nn.Conv2d(4, 2, 1)
    norm.running_mean.copy_(torch.arange(4))
    weight = depthwise.weight.detach().clone()
    prune_group(NeuronGroup("d", (depthwise, norm), (Reader.of(reader, 4),)), torch.tensor([1, 3]))
    assert (depthwise.groups, depthwise.in_channels, depthwise.out_channels) == (2, 2, 2)
    assert torch.equal(depthwise.weight, weight[[1, 3]])
    assert (norm.num_features, norm.running_mean.tolist()) == (2, [1, 3])
    assert reader(norm(depthwise(torch.randn(1, 2, 5, 5)))).shape == (1, 2, 3, 3)
    grouped = NeuronGroup("g", (nn.Conv2d(4, 4, 3, groups=2),), (Reader.of(nn.Conv2d(4, 2, 1), 4),))
    with pytest.raises(ZooError, match="only if it is depthwise"):
        prune_group(grouped, torch.tensor([1, 3]))
