"""Cutting: a smaller network whose logits equal those of the gated one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

from zoo.errors import ZooError, suggest
from zoo.models import groups_of, prune_group

Model = TypeVar("Model", bound=nn.Module)


def cut(model: Model, scales: Mapping[str, Tensor]) -> Model:
    """A copy of a network without the neurons whose scale is 0, the scales of the others folded into its weights.

    scales  group name -> (N,), not negative and not all 0; a group that is not named stays whole

    The result is an ordinary network of the same class with smaller widths, in the model's mode (train or eval).

    Raises ZooError for an unknown group, a wrong length, a negative scale, or a group with nothing left.
    """
    small = copy.deepcopy(model)
    names = [group.name for group in groups_of(small)]
    for name in scales:
        if name not in names:
            raise ZooError(f"There is no neuron group '{name}'; {suggest(name, names)}")
    for name in (name for name in names if name in scales):
        # Asked again after every cut, which changes the channels that other groups have in shared readers.
        group = {group.name: group for group in groups_of(small)}[name]
        scale = scales[name].detach().cpu()
        if scale.shape != (group.size,) or bool((scale < 0).any()):
            raise ZooError(f"Group {name} takes {group.size} scales that are not negative; got {tuple(scale.shape)}.")
        kept = scale.nonzero().squeeze(1)
        if len(kept) == 0:
            raise ZooError(f"Group {name} would lose all of its {group.size} neurons.")
        if len(kept) < group.size or bool((scale != 1).any()):
            prune_group(group, kept, scale[kept])
    return small
