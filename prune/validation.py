"""Checks of what `prune` is given, each with a message of one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from zoo import distributed
from zoo.errors import ZooError, suggest
from zoo.evaluate import processor_name
from zoo.models import NeuronGroup
from zoo.prune.options import MethodConfig
from zoo.prune.postprocess import check_recalibration
from zoo.prune.resume import hash_inputs


def check_network(model: nn.Module, inputs: Tensor, config: MethodConfig) -> None:
    """Raise ZooError unless network and samples allow what the settings ask for: gradients, batch norms to recalibrate,
    weights that eval_dtype can round."""
    if torch.is_inference_mode_enabled():
        raise ZooError("Pruning takes gradients: call it outside torch.inference_mode().")
    if config.repair.recalibrate:
        check_recalibration(model, inputs)
    dtype = config.search.eval_dtype
    others = {str(weight.dtype)[6:] for weight in model.parameters() if weight.is_floating_point()} - {"float32"}
    if dtype != "float32" and others:
        raise ZooError(
            f"Evaluating in {dtype} is for a network in float32; this one has {', '.join(sorted(others))} weights: "
            f"leave `eval_dtype` out."
        )


def check_same_inputs_on_all_ranks(
    model: nn.Module, inputs: Tensor, labels: Tensor | None, settings: Mapping[str, object]
) -> None:
    """Raise ZooError unless all processes got the same network, data and settings, and run on processors that round
    alike: each process makes every choice by itself, from sums that all share."""
    if not distributed.is_distributed():
        return
    processor = f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {processor_name(inputs.device)}"
    distributed.check_same("the kind of processor and its threads", processor)
    if len(set(distributed.all_gather_object(hash_inputs(model, inputs, labels, dict(settings))))) > 1:
        raise ZooError(
            "The processes were given different networks, samples or settings: give each the same, and all samples; it "
            "takes its own part of them."
        )


def groups_by_name(groups: Sequence[NeuronGroup], names: Sequence[str] | None) -> list[NeuronGroup]:
    """The groups of these names in the network's order, all groups for None. Raises ZooError for an unknown name."""
    possible = [group.name for group in groups]
    if names is not None and not names:
        raise ZooError("No group is left to prune: name one at least, or leave `groups` out to prune all.")
    for name in names or ():
        if name not in possible:
            raise ZooError(f"There is no neuron group '{name}'; {suggest(name, possible)}")
    return [group for group in groups if names is None or group.name in names]


def check_widths(groups: Sequence[NeuronGroup], widths: Mapping[str, int]) -> None:
    """Raise ZooError unless every width is of one of the groups, and possible."""
    sizes = {group.name: group.size for group in groups}
    for name, width in widths.items():
        if name not in sizes:
            raise ZooError(f"There is no neuron group '{name}'; {suggest(name, sizes)}")
        if not 1 <= width <= sizes[name]:
            raise ZooError(f"Group {name} can keep 1 to {sizes[name]} neurons, not {width}.")
