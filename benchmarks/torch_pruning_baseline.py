"""Torch-Pruning (pip install torch-pruning) with its defaults, at the MACs of a network that this package pruned."""

from __future__ import annotations

import copy

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.evaluate import count

IMPORTANCES = {"magnitude": "GroupMagnitudeImportance", "taylor": "GroupTaylorImportance"}


def prune_at_ratio(model: nn.Module, kind: str, ratio: float, x: Tensor, y: Tensor) -> nn.Module:
    """A copy of the model with the fraction `ratio` of the channels of every layer removed, except of the classifier.

    The first of the samples x (M, ...) traces the network; Taylor importance uses the gradients of the cross-entropy of
    all of them with the labels y (M,).
    """
    import torch_pruning as tp

    model = copy.deepcopy(model)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    pruner = tp.pruner.BasePruner(model, x[:1], importance=getattr(tp.importance, IMPORTANCES[kind])(),
                                  pruning_ratio=ratio, ignored_layers=[last])  # fmt: skip
    if kind == "taylor":
        for inputs, labels in zip(x.split(32), y.split(32), strict=True):
            (F.cross_entropy(model(inputs), labels, reduction="sum") / len(x)).backward()
    pruner.step()
    return model.zero_grad() or model


def ratio_for_macs(model: nn.Module, kind: str, macs: float, x: Tensor, y: Tensor) -> float:
    """The pruning ratio whose network has the most MACs up to `macs`, by bisection; importance is from 32 samples."""
    low, high = 0.0, 0.9
    for _ in range(10):
        middle = (low + high) / 2
        small = prune_at_ratio(model, kind, middle, x[:32], y[:32])
        low, high = (low, middle) if count(small, tuple(x.shape[1:])).macs <= macs else (middle, high)
    return high
