"""MACs against PyTorch's own operation counter."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from zoo import models
from zoo.evaluate import Counts, count
from zoo.models import EdgeConv


def flops(call, *inputs) -> int:
    """What PyTorch counts: 2 for a multiply-accumulate, of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        call(*inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize("build", [torchvision.models.mobilenet_v2, lambda: models.build("mobilenet_v2")])
def test_the_papers_two_counts_of_mobilenet_v2(build):
    counts = count(build(), (3, 224, 224))
    assert (round(counts.macs / 1e6, 1), round(counts.macs_paper / 1e6, 1)) == (300.8, 314.1)
    assert counts.parameters == 3_504_872


def test_resnet34_is_counted_as_torchvision_says():
    counts = count(torchvision.models.resnet34(), (3, 224, 224))
    weights = torchvision.models.ResNet34_Weights.IMAGENET1K_V1
    assert counts.macs / 1e9 == pytest.approx(weights.meta["_ops"], abs=5e-4)
    assert counts.parameters == weights.meta["num_params"]


@pytest.mark.parametrize("arch", ["mlp", "mobilenet_v3_small", "resnet34", "vgg11"])
def test_equals_pytorchs_counter(arch):
    network = models.build(arch).eval()
    shape = {"mlp": (784,)}.get(arch, (3, 64, 64))
    if arch == "mlp":
        shape = (next(network.parameters()).shape[1],)
    assert 2 * count(network, shape).macs == flops(network, torch.randn(1, *shape))


def test_groups_strides_and_several_dimensions():
    network = nn.Sequential(
        nn.Conv2d(6, 12, (3, 2), stride=2, groups=3),
        nn.BatchNorm2d(12),
        nn.Flatten(2),
        nn.Conv1d(12, 5, 1),
        nn.Linear(12, 7),
    )
    # 12 x 3 x 4 outputs of 2 x 3 x 2 products; 5 x 12 outputs of 12; 5 x 7 outputs of 12
    assert count(network, (6, 7, 8)) == Counts(
        parameters=sum(p.numel() for p in network.parameters()),
        macs=144 * 12 + 60 * 12 + 35 * 12,
        macs_paper=144 * 12 + 60 * 12 + 35 * 12 + 2 * 144,
    )


def test_edge_conv_counts_as_written_out_and_speaks_for_its_parts():
    layer = EdgeConv(5, 8, k=4).eval()
    x = torch.randn(1, 5, 30)
    counts = count(layer, (5, 30))
    assert 2 * counts.macs == flops(layer.conv, layer.edges(x))  # without the search for neighbours
    assert counts.macs_paper - counts.macs == 2 * 8 * 30 * 4
    twice = count(nn.Sequential(layer, nn.Conv1d(8, 3, 1)), (5, 30))
    assert twice.macs == counts.macs + 3 * 30 * 8


def test_counting_leaves_the_network_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert count(network, (3, 8, 8)) == count(network, (3, 8, 8))
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
