"""The networks by name: `register_model` adds one, `create_model` builds one.

A file of this folder that applies `@register_model(...)` to its builder is all that a new network needs: the names are
read from the source of the files (`zoo.utils.decorator_calls`), and a file is imported when its network is first built,
so that a point-cloud network does not wait for torchvision. A network outside this package can be used by name once the
file that registers it has been imported.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from zoo.errors import ZooError, suggest
from zoo.models.groups import widths_of
from zoo.utils import decorator_calls

Kind = Literal["points", "images"]
Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class _Registered:
    builder: Callable[..., nn.Module]
    widths_for_multiplier: Callable[[float], dict[str, int]] | None
    recipe: str | None
    kind: Kind | None


_REGISTERED: dict[str, _Registered] = {}


@functools.cache
def _builtin_files() -> dict[str, str]:
    """Name of each network of this package -> the module that registers it."""
    calls = decorator_calls(Path(__file__).parent, "register_model")
    return {call.args[0].value: f"zoo.models.{file}" for file, call in calls}  # type: ignore[attr-defined]


def register_model(
    name: str,
    *,
    widths_for_multiplier: Callable[[float], dict[str, int]] | None = None,
    recipe: str | None = None,
    kind: Kind | None = None,
) -> Callable[[Builder], Builder]:
    """Decorator for a builder function, which then builds the network `name` in Python and on the command line.

    The builder takes keyword arguments only, `num_classes` and `widths` (group name -> neurons, or None for the dense
    network) among them, and returns an nn.Module with a method ``neuron_groups()`` and a property ``widths``.

    widths_for_multiplier  width multiplier w -> width of every group, where it is not w times the dense one
    recipe                 the network whose training recipe is used, where this one has none (`zoo.train.recipe_for`)
    kind                   what the network takes, if only one of the two: then another data set is refused at once

    Raises ZooError if another network has that name.
    """

    def register(builder: Builder) -> Builder:
        before = _REGISTERED.get(name)
        file = _builtin_files().get(name, "") if before is None else before.builder.__module__
        if file not in ("", builder.__module__):
            raise ZooError(f"a network {name!r} is registered already, by {file}: register this one by another name")
        _REGISTERED[name] = _Registered(builder, widths_for_multiplier, recipe, kind)
        return builder

    return register


def list_architectures() -> tuple[str, ...]:
    """The names that `create_model` takes, sorted."""
    return tuple(sorted({*_builtin_files(), *_REGISTERED}))


def builder_of(arch: str) -> Callable[..., nn.Module]:
    """The function that builds a network by name; an unknown name is a ZooError that suggests near ones."""
    return _find(arch).builder


def kind_of(arch: str) -> Kind | None:
    """What a network takes, "points" or "images"; None for one that takes either or neither."""
    return _find(arch).kind


def recipe_of(arch: str) -> str | None:
    """The network whose training recipe a network is registered to use, if any."""
    return _find(arch).recipe


def create_model(
    arch: str, *, num_classes: int | None = None, widths: Mapping[str, int] | None = None, **options: Any
) -> nn.Module:
    """The network of that name, freshly initialised; widths (group name -> neurons) override the dense ones.

    Raises ZooError for an unknown architecture, option or group, and for a width below 1 or above the dense one.
    """
    builder = builder_of(arch)
    parameters = inspect.signature(builder).parameters
    for option in options:
        if option not in parameters:
            raise ZooError(f"{arch} has no option '{option}'; {suggest(option, parameters)}")
    if num_classes is not None:
        options["num_classes"] = num_classes
    if widths:
        dense = _dense_widths(builder, options)
        for group, width in widths.items():
            if group not in dense:
                raise ZooError(f"{arch} has no neuron group '{group}'; {suggest(group, dense)}")
            if not 1 <= width <= dense[group]:
                raise ZooError(f"{arch}: group {group} can have 1 to {dense[group]} neurons, not {width}.")
    return builder(widths=widths, **options)


def scaled_widths(arch: str, w: float, *, num_classes: int | None = None, **options: Any) -> dict[str, int]:
    """The widths (group name -> neurons) of the dense network with width multiplier w in (0, 1].

    Every group has max(1, round(w n)) of its n neurons, unless the network is registered with a rule of its own: DGCNN
    scales its EdgeConv layers alone (Ye et al. 2020, table 3).
    """
    if not 0 < w <= 1:
        raise ZooError(f"A width multiplier lies above 0 and at most at 1; got {w}.")
    network = _find(arch)
    if network.widths_for_multiplier is not None:
        return network.widths_for_multiplier(w)
    if num_classes is not None:
        options["num_classes"] = num_classes
    dense = _dense_widths(network.builder, options)
    return {group: max(1, round(w * n)) for group, n in dense.items()}


def _dense_widths(builder: Callable[..., nn.Module], options: Mapping[str, Any]) -> dict[str, int]:
    with torch.device("meta"):  # no memory, no initialisation
        model = builder(**options)
    return widths_of(model)


def _find(arch: str) -> _Registered:
    if arch not in _REGISTERED:
        if arch not in _builtin_files():
            raise ZooError(f"There is no architecture '{arch}'; {suggest(arch, list_architectures())}")
        import_module(_builtin_files()[arch])
    return _REGISTERED[arch]
