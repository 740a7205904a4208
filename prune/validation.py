"""Input of a pruning pass that cannot be used, said in one sentence."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo import distributed
from zoo.errors import ZooError, suggest
from zoo.models import NeuronGroup
from zoo.prune.engine import DISCREPANCIES
from zoo.prune.options import Repair
from zoo.prune.postprocess import batch_norms
from zoo.prune.resume import fingerprint


def check_goal(goals: Mapping[str, object], methods: Sequence[str], method: str, discrepancy: str) -> None:
    """Exactly one goal of eps, widths and a budget; a method and a discrepancy that exist."""
    if sum(goal is not None for goal in goals.values()) != 1:
        raise ZooError(
            "Give one goal: eps, the tolerance; widths, the number of neurons of each group; or a budget for the whole."
        )
    eps = goals["eps"]
    if isinstance(eps, float | int) and not (math.isfinite(eps) and eps >= 0):
        raise ZooError(f"eps is a tolerance of the cross-entropy, a number that is not negative; got {eps}.")
    if method not in methods:
        raise ZooError(f"There is no pruning method '{method}'; {suggest(method, methods)}.")
    if discrepancy not in DISCREPANCIES:
        raise ZooError(f"There is no discrepancy '{discrepancy}'; {suggest(discrepancy, DISCREPANCIES)}.")


def check_steps(model: nn.Module, inputs: Tensor, repair: Repair, batch_size: int, precision: str) -> None:
    """What the pass and its last steps need: gradients, samples, batch norms to recalibrate, weights to round."""
    if batch_size < 1:
        raise ZooError(f"batch_size is {batch_size}: give 1 or more samples.")
    if torch.is_inference_mode_enabled():
        raise ZooError("Pruning takes gradients: call it outside torch.inference_mode().")
    if repair.recalibrate and len(inputs) < 2:
        raise ZooError("Batch norms are recalibrated from 2 samples at least, and well from a hundred.")
    if repair.recalibrate and not batch_norms(model):
        raise ZooError("There is no batch norm with statistics to recalibrate in this network: leave that step out.")
    types = {str(weight.dtype)[6:] for weight in model.parameters() if weight.is_floating_point()} - {"float32"}
    if precision != "float32" and types:
        raise ZooError(
            f"Looking in {precision} is for a network in float32; this one has {', '.join(sorted(types))} weights: "
            f"leave look_precision out."
        )


def alike(model: nn.Module, inputs: Tensor, labels: Tensor | None, settings: Mapping[str, object]) -> None:
    """Raise ZooError unless all processes were given the same, on processors that round alike: each makes every choice
    itself, from sums that all share."""
    if not distributed.is_distributed():
        return
    distributed.check_same("the kind of processor and its threads", _rounding(inputs.device))
    if len(set(distributed.all_gather_object(fingerprint(model, inputs, labels, dict(settings))))) > 1:
        raise ZooError(
            "The processes were given different networks, samples or settings: give each the same, and all samples; it "
            "takes its own part of them."
        )


def _rounding(device: torch.device) -> str:
    """What decides how sums round: the processor, its instructions, the number of threads, torch's version."""
    words = [torch.__version__, torch.backends.cpu.get_cpu_capability(), f"{torch.get_num_threads()} threads"]
    cpuinfo = Path("/proc/cpuinfo")  # where it is, Python's own word says little
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    words.append(next((line for line in lines if line.startswith("model name")), platform.processor()))
    if device.type == "cuda":
        words.append(torch.cuda.get_device_name(device))
    return ", ".join(words)


def checked_data(model: nn.Module, data: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    """Inputs and class labels (or None) on the model's device."""
    inputs, labels = data
    if len(inputs) == 0:
        raise ZooError("There are no pruning samples: give at least one.")
    if not bool(torch.isfinite(inputs).all()):
        bad = int(torch.isfinite(inputs).flatten(1).all(1).logical_not().nonzero()[0])
        raise ZooError(f"Pruning sample {bad} holds NaN or infinite values: mend or remove it.")
    if labels is not None and len(labels) != len(inputs):
        raise ZooError(f"{len(inputs)} pruning samples came with {len(labels)} labels: give one label for each.")
    device = next((parameter.device for parameter in model.parameters()), inputs.device)
    if labels is not None and labels.is_floating_point():
        labels = None
    return inputs.to(device), None if labels is None else labels.to(device)


def chosen_groups(every: list[NeuronGroup], names: Sequence[str] | None) -> list[NeuronGroup]:
    """The groups of these names, all of them for None."""
    known = [group.name for group in every]
    if names is not None and not names:
        raise ZooError("No group is left to prune: name one at least, or leave groups out to prune all.")
    for name in names or ():
        if name not in known:
            raise ZooError(f"There is no neuron group '{name}'; {suggest(name, known)}.")
    return [group for group in every if names is None or group.name in names]


def checked_widths(chosen: list[NeuronGroup], widths: Mapping[str, int] | None) -> dict[str, int] | None:
    """The widths as they are, if every one is possible."""
    if widths is None:
        return None
    sizes = {group.name: group.size for group in chosen}
    for name, width in widths.items():
        if name not in sizes:
            raise ZooError(f"There is no neuron group '{name}'; {suggest(name, sizes)}.")
        if not 1 <= width <= sizes[name]:
            raise ZooError(f"Group {name} can keep 1 to {sizes[name]} neurons, not {width}.")
    return dict(widths)
