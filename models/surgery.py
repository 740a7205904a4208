"""Removing neurons of a group in place, the operation behind `zoo.prune.cut` and behind builders with `widths`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo.errors import ZooError, suggest
from zoo.models.groups import NeuronGroup, Reader, groups_of, widths_of

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def set_widths(model: nn.Module, widths: dict[str, int]) -> None:
    """Keep the first `widths[name]` neurons of each named group, in place.

    Raises ZooError for an unknown group or a width that is not between 1 and the group's size.
    """
    sizes = widths_of(model)
    for name, width in widths.items():
        if name not in sizes:
            raise ZooError(f"There is no neuron group '{name}'; {suggest(name, sizes)}")
        if not 1 <= width <= sizes[name]:
            raise ZooError(f"Group {name} can have 1 to {sizes[name]} neurons, not {width}.")
    for name, width in widths.items():
        if width < sizes[name]:
            # The groups are read again for each name, because the columns of one depend on the widths of others.
            group = next(group for group in groups_of(model) if group.name == name)
            prune_group(group, torch.arange(width, device="cpu"))


def set_torchvision_widths(model: nn.Module, widths: Mapping[str, int] | None) -> None:
    """`set_widths` of a new network of torchvision's, initialised again for the fan-out of its narrow convolutions."""
    if widths:
        set_widths(model, dict(widths))
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


@torch.no_grad()
def prune_group(group: NeuronGroup, kept: Tensor, scale: Tensor | None = None) -> None:
    """Keep the neurons `kept` (n,) of a group and remove the others, in place; the order of neurons does not change.

    scale  (n,) what multiplies each neuron of `kept` where it is read: it goes into the readers' columns, or into the
           last writer where `group.scale_on_writer` is set

    Raises ZooError if no neuron is kept, or if an index in `kept` is repeated or out of range.
    """
    kept, order = kept.cpu().sort()
    scale = None if scale is None else scale.cpu()[order]
    if not len(kept) or kept[0] < 0 or kept[-1] >= group.size or bool((kept.diff() == 0).any()):
        raise ZooError(f"Group {group.name}: keep 1 to {group.size} different neurons of 0 to {group.size - 1}.")
    for reader in group.readers:
        _keep_columns(reader, kept, None if group.scale_on_writer else scale)
    for writer in dict.fromkeys(group.writers):
        _keep_rows(writer, kept)
    if scale is not None and group.scale_on_writer:
        last = group.writers[-1]
        for parameter in last.parameters(recurse=False):
            parameter.mul_(scale.to(parameter).view(-1, *[1] * (parameter.dim() - 1)))


def _keep_rows(writer: nn.Module, kept: Tensor) -> None:
    """Keep the rows `kept` of every parameter and buffer of a writer, and set its numbers of channels."""
    for name, parameter in list(writer.named_parameters(recurse=False)):
        rows = parameter.detach()[kept.to(parameter.device)].clone()
        setattr(writer, name, nn.Parameter(rows, requires_grad=parameter.requires_grad))
    for name, buffer in list(writer.named_buffers(recurse=False)):
        if buffer.dim():
            setattr(writer, name, buffer[kept.to(buffer.device)].clone())
    n = len(kept)
    if isinstance(writer, (nn.Conv1d, nn.Conv2d)):
        if writer.groups == writer.out_channels == writer.in_channels:  # depthwise: output i reads input i alone
            writer.groups = writer.in_channels = n
        elif writer.groups != 1:
            raise ZooError("A grouped convolution can write a group only if it is depthwise.")
        writer.out_channels = n
    elif isinstance(writer, nn.Linear):
        writer.out_features = n
    elif isinstance(writer, _NORMS):
        writer.num_features = n


def _keep_columns(reader: Reader, kept: Tensor, scale: Tensor | None) -> None:
    """Remove the columns of a reader's weight that belong to neurons not in `kept`; multiply the others by their scale.

    Columns that belong to no neuron of the group (other inputs of a concatenation) stay. The order does not change.
    """
    layer = reader.layer
    weight: Tensor = layer.weight  # type: ignore[assignment]
    flat = weight.detach().flatten(1).clone()
    columns = reader.all_columns
    if scale is not None:
        flat[:, columns[kept].flatten().to(flat.device)] *= scale.to(flat).repeat_interleave(columns.shape[1])
    kept_columns = torch.ones(flat.shape[1], dtype=torch.bool, device="cpu")
    kept_columns[columns.flatten()] = False
    kept_columns[columns[kept].flatten()] = True
    flat = flat[:, kept_columns.nonzero().squeeze(1).to(flat.device)]
    kernel_numel = weight.shape[2:].numel()
    new_weight = flat.reshape(len(weight), flat.shape[1] // kernel_numel, *weight.shape[2:]).contiguous()
    layer.weight = nn.Parameter(new_weight, requires_grad=weight.requires_grad)
    if isinstance(layer, nn.Linear):
        layer.in_features = new_weight.shape[1]
    elif isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        layer.in_channels = new_weight.shape[1]
