"""One dict of architectures, and the builder that cards and checkpoints go through."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from zoo.errors import ZooError, suggest
from zoo.models.dgcnn import dgcnn, multiplier
from zoo.models.groups import widths_of
from zoo.models.mlp import mlp
from zoo.models.mobilenet import mobilenet_v2, mobilenet_v3_large, mobilenet_v3_small
from zoo.models.pointnet import pointnet
from zoo.models.pointnet2 import pointnet2
from zoo.models.resnet import resnet34
from zoo.models.vgg import vgg11


@dataclass(frozen=True)
class Arch:
    """builder: the public function; multiplier: width multiplier -> widths, where it is not every group times w."""

    builder: Callable[..., nn.Module]
    multiplier: Callable[[float], dict[str, int]] | None = None


_ARCHS: dict[str, Arch] = {
    "dgcnn": Arch(dgcnn, multiplier),
    "mlp": Arch(mlp),
    "mobilenet_v2": Arch(mobilenet_v2),
    "mobilenet_v3_large": Arch(mobilenet_v3_large),
    "mobilenet_v3_small": Arch(mobilenet_v3_small),
    "pointnet": Arch(pointnet),
    "pointnet2": Arch(pointnet2),
    "resnet34": Arch(resnet34),
    "vgg11": Arch(vgg11),
}

ARCHS: tuple[str, ...] = tuple(sorted(_ARCHS))


def build(
    arch: str, *, num_classes: int | None = None, widths: Mapping[str, int] | None = None, **options: Any
) -> nn.Module:
    """The network of that name, freshly initialised; widths (group name -> neurons) override the dense ones.

    Raises ZooError for an unknown architecture, option or group, and for a width below 1 or above the dense one.
    """
    builder = _find(arch).builder
    known = inspect.signature(builder).parameters
    for option in options:
        if option not in known:
            raise ZooError(f"{arch} has no option '{option}'; {suggest(option, known)}.")
    if num_classes is not None:
        options["num_classes"] = num_classes
    if widths:
        dense = _dense_widths(builder, options)
        for group, width in widths.items():
            if group not in dense:
                raise ZooError(f"{arch} has no neuron group '{group}'; {suggest(group, dense)}.")
            if not 1 <= width <= dense[group]:
                raise ZooError(f"{arch}: group {group} can have 1 to {dense[group]} neurons, not {width}.")
    return builder(widths=widths, **options)


def multiplier_widths(arch: str, w: float, *, num_classes: int | None = None, **options: Any) -> dict[str, int]:
    """The widths of the dense network with width multiplier w in (0, 1]: the EdgeConv layers for DGCNN, every group
    for the others."""
    if not 0 < w <= 1:
        raise ZooError(f"A width multiplier lies above 0 and at most at 1; got {w}.")
    special = _find(arch).multiplier
    if special is not None:
        return special(w)
    if num_classes is not None:
        options["num_classes"] = num_classes
    dense = _dense_widths(_find(arch).builder, options)
    return {group: max(1, round(w * n)) for group, n in dense.items()}


def _dense_widths(builder: Callable[..., nn.Module], options: Mapping[str, Any]) -> dict[str, int]:
    with torch.device("meta"):  # no memory, no initialisation
        model = builder(**options)
    return widths_of(model)


def _find(arch: str) -> Arch:
    if arch not in _ARCHS:
        raise ZooError(f"There is no architecture '{arch}'; {suggest(arch, _ARCHS)}.")
    return _ARCHS[arch]
