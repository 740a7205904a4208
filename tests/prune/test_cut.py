"""Cut against gated: the smaller network's logits are those of the unpruned one with scales on its neurons."""

import copy

import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.models import ARCHS, NeuronGroup, Reader, build, groups_of
from zoo.prune import cut
from zoo.prune.engine import Gates

INPUTS = {"mlp": (10,), "dgcnn": (3, 48), "pointnet": (3, 48), "pointnet2": (3, 600), "vgg11": (3, 32, 32)}


def network(arch):
    """A network in float64 with batch norms that do something, and an input of two samples."""
    torch.manual_seed(0)
    options = {"k": 6} if arch == "dgcnn" else {}
    model = build(arch, num_classes=5, **options).double().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
                module.weight.uniform_(0.5, 1.5).mul_(torch.randn_like(module.weight).sign())
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
    return model, torch.randn(2, *INPUTS.get(arch, (3, 64, 64)), dtype=torch.float64)


def random_scales(group, generator):
    scale = torch.rand(group.size, generator=generator, dtype=torch.float64) * 2 + 0.1
    scale[torch.rand(group.size, generator=generator) < 0.4] = 0
    scale[0] = 0.7
    return scale


def gated(model, x, scales):
    unpruned = copy.deepcopy(model)
    with Gates(groups_of(unpruned)) as gates, torch.no_grad():
        for name, scale in scales.items():
            gates.set(name, scale)
        return unpruned(x)


SLOW = ("mobilenet_v2", "mobilenet_v3_large", "pointnet2", "resnet34")


@pytest.mark.parametrize("arch", [pytest.param(arch, marks=[pytest.mark.slow] * (arch in SLOW)) for arch in ARCHS])
def test_cut_equals_gated_for_every_group(arch):
    model, x = network(arch)
    generator = torch.Generator().manual_seed(1)
    unpruned = model(x).detach()
    for group in groups_of(model):
        scales = {group.name: random_scales(group, generator)}
        small = cut(model, scales)
        expected = gated(model, x, scales)
        torch.testing.assert_close(small(x).detach(), expected, rtol=1e-8, atol=1e-10)
        assert not torch.allclose(expected, unpruned, rtol=1e-8, atol=1e-10)
        assert dict(small.widths)[group.name] == int(torch.count_nonzero(scales[group.name]))


@pytest.mark.parametrize("arch", ARCHS)
def test_cut_equals_gated_for_all_groups_at_once_and_is_the_same_class_with_other_widths(arch):
    model, x = network(arch)
    generator = torch.Generator().manual_seed(2)
    scales = {group.name: random_scales(group, generator) for group in groups_of(model)}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small = cut(model, scales)
    torch.testing.assert_close(small(x).detach(), gated(model, x, scales), rtol=1e-8, atol=1e-10)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    options = {"k": 6} if arch == "dgcnn" else {}
    rebuilt = build(arch, num_classes=5, widths=small.widths, **options).double().eval()
    rebuilt.load_state_dict(small.state_dict(), strict=True)
    assert torch.equal(rebuilt(x), small(x))


def test_what_cannot_be_cut_is_refused():
    model = build("mlp")
    with pytest.raises(ZooError, match="no neuron group 'hiden1'; did you mean hidden1"):
        cut(model, {"hiden1": torch.ones(100)})
    with pytest.raises(ZooError, match="takes 100 scales"):
        cut(model, {"hidden1": torch.ones(99)})
    with pytest.raises(ZooError, match="takes 100 scales"):
        cut(model, {"hidden1": -torch.ones(100)})
    with pytest.raises(ZooError, match="lose all of its 100"):
        cut(model, {"hidden1": torch.zeros(100)})


def test_a_scale_goes_to_the_samples_device_once():
    """A copy in every forward would make a GPU wait for the host in every step of a search."""
    reader = nn.Linear(4, 2).to("meta")
    group = NeuronGroup("first", writers=(), readers=(Reader.of(reader, 4),))
    with Gates([group]) as gates:
        gates.set("first", torch.ones(4, dtype=torch.float64))
        reader(torch.ones(3, 4, device="meta"))
        scale = gates.get("first")
        assert scale.device.type == "meta"
        reader(torch.ones(3, 4, device="meta"))
        assert gates.get("first") is scale
