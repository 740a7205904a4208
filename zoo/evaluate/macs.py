"""Parameters and multiply-accumulates (MACs) of a network.

MACs are counted over convolutions and linear layers for one sample. The paper counts 2 more for every output element of
a batch norm (MobileNetV2 at 224 x 224: 300.8M and 314.1M); both counts are returned side by side, and one table must
never mix them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from zoo.errors import ZooError
from zoo.evaluate.loader import model_device
from zoo.evaluate.metrics import eval_mode


@dataclass(frozen=True)
class Counts:
    """Parameters; MACs of convolutions and linear layers for one sample; MACs plus 2 per batch-norm output element."""

    parameters: int
    macs: int
    macs_paper: int


def count(model: nn.Module, sample: tuple[int, ...] | Tensor) -> Counts:
    """Count parameters and MACs by one forward pass.

    `sample` is the shape of one sample, for instance (3, 224, 224), or inputs (1, ...). See `count_layers` for modules
    that count themselves.

    Raises ZooError for transposed convolutions.
    """
    layers = count_layers(model, sample)
    macs, norm_elements = (sum(counts[i] for counts in layers.values()) for i in (0, 1))
    return Counts(sum(p.numel() for p in model.parameters()), macs, macs + 2 * norm_elements)


def count_layers(model: nn.Module, sample: tuple[int, ...] | Tensor) -> dict[nn.Module, tuple[int, int]]:
    """(MACs, batch-norm output elements) of every layer for one sample, as in `count`.

    A module with a method `count_macs(*inputs) -> (macs, batch-norm output elements)` is counted by that method, with
    all modules inside it: a layer that computes less than its parts would do alone can say so.
    """
    counts: dict[nn.Module, tuple[int, int]] = {}

    def add(module: nn.Module, macs: int, norm_elements: int) -> None:
        before = counts.get(module, (0, 0))  # a module may be called more than once
        counts[module] = (before[0] + macs, before[1] + norm_elements)

    def by_its_method(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        add(module, *module.count_macs(*inputs))  # type: ignore[operator]

    def by_its_output(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, _BatchNorm):
            add(module, 0, output.numel())
        elif isinstance(module, nn.Linear):
            add(module, output.numel() * module.in_features, 0)
        elif isinstance(module, _ConvNd):
            add(module, output.numel() * module.weight[0].numel(), 0)

    handles = []
    covered: set[nn.Module] = set()  # modules inside one that counts itself
    for module in model.modules():  # parents come before their children
        if module in covered:
            continue
        if hasattr(module, "count_macs"):
            handles.append(module.register_forward_hook(by_its_method))
            covered.update(module.modules())
        elif isinstance(module, nn.Linear | _BatchNorm | _ConvNd):
            if isinstance(module, _ConvNd) and module.transposed:
                raise ZooError("transposed convolutions cannot be counted yet")
            handles.append(module.register_forward_hook(by_its_output))
    if not isinstance(sample, Tensor):
        sample = torch.randn(1, *sample, generator=torch.Generator().manual_seed(0))
        sample = sample.to(next((p.dtype for p in model.parameters() if p.is_floating_point()), sample.dtype))
    try:
        with eval_mode(model), torch.inference_mode():
            model(sample.to(model_device(model)))
    finally:
        for handle in handles:
            handle.remove()
    return counts
