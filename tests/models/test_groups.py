"""Who reads which neuron: checked by forward passes, for every group of every architecture."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.errors import ZooError
from zoo.models import ARCHS, EdgeConv, NeuronGroup, Reader, Stage, build, groups_of, stages_of, vgg11, widths_of

# name: (arch, options, shape of the input). With k = N every point is everyone's neighbour, so that what a neuron does
# to the search for neighbours (tests/test_dgcnn.py) does not mix with what its readers' weights do.
SMALL = {"features.11": 96, "features.15": 80, "features.18": 72, "features.22": 64, "features.25": 56} | {
    "classifier.0": 48,
    "classifier.3": 40,
}
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
    "vgg11 full": (
        "vgg11",
        {"num_classes": 5, "head": "full", "widths": SMALL},
        (1, 3, 64, 64),
    ),
}


def test_every_architecture_is_a_case():
    assert {arch for arch, _, _ in CASES.values()} == set(ARCHS)


SLOW = ("mobilenet_v2", "mobilenet_v3_large", "vgg11 full")  # as mobilenet_v3_small and vgg11


@pytest.fixture(
    scope="module", params=[pytest.param(case, marks=[pytest.mark.slow] * (case in SLOW)) for case in CASES]
)
def case(request):
    """A network in float64 and eval mode with batch norms as after training, and an input."""
    arch, options, shape = CASES[request.param]
    torch.manual_seed(0)
    model = build(arch, **options).double()
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
    return model.eval().requires_grad_(False), torch.rand(shape, dtype=torch.float64)


class Zeroed:
    """Sets parts of tensors to zero, and back on leaving."""

    def __init__(self, parts):
        self.parts = [(tensor, index, tensor[index].clone()) for tensor, index in parts]

    def __enter__(self):
        for tensor, index, _ in self.parts:
            tensor[index] = 0

    def __exit__(self, *_):
        for tensor, index, value in self.parts:
            tensor[index] = value


def rows_of_writers(group, neurons):
    return [(p, neurons) for writer in group.writers for p in writer.parameters()]


def columns_of_readers(group, neurons):
    for reader in group.readers:
        flat = reader.layer.weight.flatten(1)
        assert flat.data_ptr() == reader.layer.weight.data_ptr()  # a view: writing to it writes the weight
        yield flat, (slice(None), reader.all_columns[neurons].flatten())


def test_a_neuron_that_is_zero_is_a_reader_without_its_columns(case):
    model, x = case
    before = model(x)
    size = before.abs().max()
    for group in groups_of(model):
        some = torch.randperm(group.size)[: (group.size + 1) // 2]
        for neurons in (some, some[:1]):
            with Zeroed(rows_of_writers(group, neurons)):
                without = model(x)
            with Zeroed(columns_of_readers(group, neurons)):
                unread = model(x)
            assert (without - unread).abs().max() <= 1e-11 * size, group.name
            if neurons is some:
                assert (without - before).abs().max() > 1e-7 * size, group.name
    torch.testing.assert_close(model(x), before, rtol=0, atol=0)


def inputs_of(model, modules, x):
    """What each module is given, and what it answers, in one forward pass (copies: some activations are in place)."""
    seen = {}

    def note(module, given, answer):
        seen[module] = given[0].clone(), answer.clone()

    hooks = [module.register_forward_hook(note) for module in modules]
    model(x)
    for hook in hooks:
        hook.remove()
    return seen


def as_rows(reader, x):
    """The reader's input as a matrix Phi, and a function that brings its output to the same rows."""
    module = reader.module
    if isinstance(module, EdgeConv):
        return module.input_matrix(x), None
    if isinstance(module, nn.Linear):
        return x, lambda y: y
    if isinstance(module, nn.Conv1d):
        return x.transpose(1, 2).flatten(0, 1), lambda y: y.transpose(1, 2).flatten(0, 1)
    patches = F.unfold(x, module.kernel_size, padding=module.padding, stride=module.stride)
    return patches.transpose(1, 2).flatten(0, 1), lambda y: y.flatten(2).transpose(1, 2).flatten(0, 1)


def test_contributions_of_the_neurons_add_up_to_the_readers_output(case):
    model, x = case
    groups = groups_of(model)
    seen = inputs_of(model, [reader.module for group in groups for reader in group.readers], x)
    for group in groups:
        for reader in group.readers:
            given, answer = seen[reader.module]
            Phi, rows = as_rows(reader, given)
            W = reader.layer.weight.flatten(1)
            if rows is not None:
                bias = 0 if reader.layer.bias is None else reader.layer.bias
                torch.testing.assert_close(Phi @ W.t() + bias, rows(answer), rtol=1e-9, atol=1e-9)
            Phi = Phi[torch.randperm(len(Phi))[:5]]
            c = [Phi[:, columns] @ W[:, columns].t() for columns in reader.all_columns]
            assert torch.equal(reader.columns(group.size - 1), reader.all_columns[-1])
            owned = reader.all_columns.flatten()
            assert len(owned.unique()) == len(owned)
            others = torch.ones(W.shape[1], dtype=torch.bool).index_fill(0, owned, False)
            total = torch.stack(c).sum(0) + Phi[:, others] @ W[:, others].t()
            torch.testing.assert_close(total, Phi @ W.t(), rtol=1e-9, atol=1e-9)


def test_only_concatenations_hold_columns_of_no_neuron(case):
    """Of DGCNN's conv5 other blocks, of PointNet++ the three places; every other reader reads this group alone."""
    model, _ = case
    for group in groups_of(model):
        for reader in group.readers:
            rest = reader.layer.weight.flatten(1).shape[1] - reader.all_columns.numel()
            if reader.module is getattr(model, "conv5", None):
                assert rest == 512 - group.size
            else:
                behind_places = group.name in ("sa1.mlp_convs.2", "sa2.mlp_convs.2")
                assert rest == (3 if behind_places else 0), group.name


def test_columns_of_every_kind_of_reader():
    assert Reader.of(nn.Linear(4, 2), 4).columns(3).tolist() == [3]
    assert Reader.of(nn.Conv1d(4, 2, 1), 3, offset=1).columns(2).tolist() == [3]
    assert Reader.of(nn.Conv2d(4, 2, 1), 4).columns(1).tolist() == [1]
    assert Reader.of(nn.Conv2d(4, 2, 3), 4).columns(1).tolist() == list(range(9, 18))
    assert Reader.of(nn.Conv2d(4, 2, (1, 2)), 4).columns(3).tolist() == [6, 7]
    assert Reader.of(EdgeConv(4, 2, k=1), 4).columns(1).tolist() == [1, 5]
    groups = {group.name: group for group in build("dgcnn").neuron_groups()}
    assert groups["edge3"].readers[1].columns(2).tolist() == [64 + 64 + 2]
    assert groups["conv5"].readers[0].columns(7).tolist() == [7, 1024 + 7]
    full = {group.name: group for group in vgg11(head="full", widths={"classifier.0": 2}).neuron_groups()}
    assert full["features.25"].readers[0].columns(3).tolist() == list(range(3 * 49, 4 * 49))


@pytest.mark.parametrize("groups", [4, 2])
def test_a_grouped_convolution_is_no_reader(groups):
    with pytest.raises(ZooError, match="mixes no channels across its groups"):
        Reader.of(nn.Conv2d(4, 4, 3, groups=groups), 4).columns(0)


def test_a_reader_must_be_a_layer_that_mixes():
    with pytest.raises(ZooError, match=r"must be a linear layer.*got ReLU"):
        Reader.of(nn.ReLU(), 4).columns(0)


class Own(nn.Module):
    """A network of the user's own with one group, which the tests below spoil."""

    def __init__(self, **changes):
        super().__init__()
        self.hidden, self.norm, self.out = nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2)
        self.group = {
            "name": "hidden",
            "writers": (self.hidden, self.norm),
            "readers": (Reader.of(self.out, 4),),
            **changes,
        }

    def forward(self, x):
        return self.out(torch.relu(self.norm(self.hidden(x))))

    def neuron_groups(self):
        return [NeuronGroup(**self.group)]


def test_a_network_of_ones_own_is_one_stage():
    model = Own().eval()
    assert widths_of(model) == {"hidden": 4}
    (stage,) = stages_of(model)
    assert isinstance(stage, Stage)
    x = torch.randn(2, 3)
    assert torch.equal(stage.run(x), model(x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"writers": (nn.Linear(3, 5),)}, "writer Linear has 5 rows, the group has 4 neurons"),
        ({"readers": ()}, "no reader"),
        ({"readers": (Reader.of(nn.Linear(4, 2), 4), Reader.of(nn.Linear(4, 2), 3))}, "disagree"),
        ({"readers": (Reader.of(nn.Linear(4, 2), 4, offset=1),)}, "owns column 4 of reader Linear, which has 4"),
        ({"scale_on_writer": True}, "no parameters that could take the scale"),
    ],
)
def test_groups_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ZooError, match=message):
        groups_of(Own(**changes))


def test_names_that_repeat_and_networks_without_groups_are_refused():
    twice = Own()
    twice.neuron_groups = lambda: [NeuronGroup(**twice.group)] * 2
    with pytest.raises(ZooError, match="repeat: hidden, hidden"):
        groups_of(twice)
    with pytest.raises(ZooError, match=r"Linear cannot be pruned: it has no method neuron_groups\(\)"):
        groups_of(nn.Linear(2, 2))


def test_groups_survive_a_copy(case):
    """Groups are made anew from the modules: those of a copy hold the copy's modules."""
    model, _ = case
    twin = copy.deepcopy(model)
    own = set(twin.modules())
    for group in groups_of(twin):
        assert {*group.writers, *(reader.module for reader in group.readers)} <= own
