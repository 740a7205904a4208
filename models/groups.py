"""Neuron groups: the interface between a network and pruning.

A *neuron* is one output channel of a layer together with everything that acts on it channel by channel (batch norm,
activation, depthwise convolution, squeeze-excitation gate), up to the next layer that mixes channels. A *group* holds
the N neurons of one layer, which can be removed one by one. *Writers* compute the neurons: neuron i is row i of each
writer's parameters. *Readers* mix the neurons: a set of columns of each reader's weight belongs to neuron i
(Ye, Wu, Liu 2020, Greedy Optimization Provably Wins the Lottery, section 2).

A network can be pruned if it has the method ``neuron_groups()``. Two more methods are optional: ``stages()`` describes
the network as a chain, so that pruning keeps the activations before a layer instead of computing them again, and
``widths`` is the number of neurons of each group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from zoo.errors import ZooError, suggest


@runtime_checkable
class CustomReader(Protocol):
    """What a module must have to be a reader if it is neither a linear layer nor a convolution.

    weight_layer  the linear layer or convolution that holds the weight (O, K, ...)
    input_matrix  the module's input as a matrix Phi (P, K), one row per position to which the weight W (O, K) is
                  applied: the module computes Phi W^T before anything that is not linear
    column_index  channels of the module's input (N, m) -> columns of the flattened weight (N, m')
    """

    @property
    def weight_layer(self) -> nn.Module: ...
    def input_matrix(self, x: Tensor) -> Tensor: ...
    def column_index(self, channels: Tensor) -> Tensor: ...


@runtime_checkable
class SummedReader(CustomReader, Protocol):
    """A reader that has the moments of its input matrix without writing the matrix out.

    second_moments  [X 1]' [X 1] (K + 1, K + 1), float64, of X = input_matrix(x) - centre, centre (K,)
    """

    def second_moments(self, x: Tensor, centre: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Reader:
    """A module that mixes the neurons of a group.

    module    nn.Linear, nn.Conv1d/2d with groups=1, or a module with the members of `CustomReader`
    channels  (N, m) the m channels of the module's *input* that hold neuron i; m > 1 where a neuron is read several
              times, for example by a linear layer on [max, mean] or on a flattened feature map
    norm      the batch norm that follows directly, which absorbs the constant term if the layer has no bias
    """

    module: nn.Module
    channels: Tensor
    norm: nn.Module | None = None

    @staticmethod
    def of(module: nn.Module, size: int, *, offset: int = 0, norm: nn.Module | None = None) -> Reader:
        """The reader of `size` neurons of which neuron i is input channel offset + i."""
        return Reader(module, offset + torch.arange(size, device="cpu").unsqueeze(1), norm)

    @property
    def layer(self) -> nn.Module:
        """The linear layer or convolution that holds the weight."""
        return self.module.weight_layer if isinstance(self.module, CustomReader) else self.module

    @property
    def weight(self) -> Tensor:
        """(O, K) the flattened weight: the reader's output is Phi W^T, and a bias."""
        weight: Tensor = self.layer.weight  # type: ignore[assignment]
        return weight.detach().flatten(1)

    @property
    def all_columns(self) -> Tensor:
        """(N, m') the columns of the flattened weight (O, K) that belong to each neuron."""
        if isinstance(self.module, CustomReader):
            return self.module.column_index(self.channels)
        if isinstance(self.module, (nn.Conv1d, nn.Conv2d)):
            if self.module.groups != 1:
                raise ZooError("A grouped convolution mixes no channels across its groups: list it as a writer.")
            area = self.module.weight[0, 0].numel()
            return (self.channels.unsqueeze(2) * area + torch.arange(area, device="cpu")).flatten(1)
        if isinstance(self.module, nn.Linear):
            return self.channels
        raise ZooError(
            f"A reader must be a linear layer, a convolution or have weight_layer, input_matrix and column_index; "
            f"got {type(self.module).__name__}."
        )

    def columns(self, neuron: int) -> Tensor:
        """(m',) the columns of the flattened weight (O, K) that belong to one neuron."""
        return self.all_columns[neuron]

    @property
    def channel_dim(self) -> int:
        """The dimension of the channels in the module's input: -1 for a linear layer, 1 otherwise."""
        return -1 if isinstance(self.module, nn.Linear) else 1


@dataclass(frozen=True, eq=False)
class NeuronGroup:
    """The N neurons of one layer.

    name     unique in the network: that of the layer, as in ``model.get_submodule(name)``
    writers  modules whose parameters have one row per neuron, in the order in which data flows
    readers  the modules that mix the neurons
    scale_on_writer
             whether the scale of a kept neuron multiplies the last writer instead of the readers' columns. This is
             necessary where a reader uses its input also otherwise than through its weight (EdgeConv searches
             neighbours in it), and correct only where all that follows the last writer is positively homogeneous
             (ReLU, LeakyReLU, maximum).
    """

    name: str
    writers: tuple[nn.Module, ...]
    readers: tuple[Reader, ...]
    scale_on_writer: bool = False

    @property
    def size(self) -> int:
        """N, the number of neurons that the group has now."""
        return int(self.readers[0].channels.shape[0])


@dataclass(frozen=True, eq=False)
class Stage:
    """One step of a network that is a chain of steps.

    run      the function from one state (a tensor or a tuple of tensors, batch first) to the next
    modules  the modules that `run` calls, by which the stage of a reader is found
    """

    name: str
    run: Callable[[Any], Any]
    modules: tuple[nn.Module, ...]


def groups_of(model: nn.Module) -> list[NeuronGroup]:
    """The neuron groups of a network, in the order in which data flows, after a check that they are consistent.

    Raises ZooError if the network offers none, if names repeat, or if the sizes of writers and readers disagree.
    """
    neuron_groups = getattr(model, "neuron_groups", None)
    if not callable(neuron_groups):
        raise ZooError(
            f"{type(model).__name__} cannot be pruned: it has no method neuron_groups() that returns a list of "
            f"zoo.models.NeuronGroup (docs/own-network.md)."
        )
    groups: list[NeuronGroup] = list(neuron_groups())
    names = [group.name for group in groups]
    if len(set(names)) != len(names):
        raise ZooError(f"The names of the neuron groups of {type(model).__name__} repeat: {', '.join(names)}.")
    for group in groups:
        _check(group)
    return groups


def _check(group: NeuronGroup) -> None:
    if not group.readers:
        raise ZooError(f"Group {group.name} has no reader: neurons that nothing reads cannot be scored or removed.")
    for writer in group.writers:
        rows = next(iter(writer.parameters())).shape[0] if len(list(writer.parameters())) else group.size
        if rows != group.size:
            raise ZooError(
                f"Group {group.name}: writer {type(writer).__name__} has {rows} rows, "
                f"the group has {group.size} neurons."
            )
    if group.scale_on_writer and not list(group.writers[-1].parameters(recurse=False)):
        raise ZooError(f"Group {group.name}: its last writer has no parameters that could take the scale.")
    for reader in group.readers:
        if reader.channels.shape[0] != group.size:
            raise ZooError(f"Group {group.name}: its readers disagree about the number of neurons.")
        width = reader.weight.shape[1]
        if int(reader.all_columns.max()) >= width:
            raise ZooError(
                f"Group {group.name}: neuron {group.size - 1} owns column {int(reader.all_columns.max())} of reader "
                f"{type(reader.module).__name__}, which has {width}."
            )


def widths_of(model: nn.Module) -> dict[str, int]:
    """Group name -> number of neurons that the group has now."""
    return {group.name: group.size for group in groups_of(model)}


def all_widths(dense: Mapping[str, int], widths: Mapping[str, int] | None) -> dict[str, int]:
    """The dense widths, overridden by `widths` (both: group name -> number of neurons).

    Raises ZooError for a group that is not among the dense ones, and for a width below 1.
    """
    for name, width in (widths or {}).items():
        if name not in dense:
            raise ZooError(f"There is no neuron group '{name}'; {suggest(name, dense)}")
        if width < 1:
            raise ZooError(f"Group {name} needs at least 1 neuron, not {width}.")
    return {**dense, **(widths or {})}


def stages_of(model: nn.Module) -> list[Stage]:
    """The network as a chain of stages; a network without a method ``stages()`` is one stage."""
    stages = getattr(model, "stages", None)
    if callable(stages):
        return list(stages())
    return [Stage("whole", model, (model,))]


def stage_range(stages: Sequence[Stage], modules: Iterable[nn.Module]) -> tuple[int, int]:
    """The index of the first stage that calls one of the modules, and one past that of the last.

    A module that no stage lists may be called anywhere: the range is then all stages.
    """
    stage_of = {
        module: index for index, stage in enumerate(stages) for part in stage.modules for module in part.modules()
    }
    indices = [stage_of.get(module, -1) for module in modules]
    return (0, len(stages)) if min(indices) < 0 else (min(indices), max(indices) + 1)


def run(stages: Sequence[Stage], state: Any) -> Any:
    """The state that a chain of stages computes from `state`."""
    for stage in stages:
        state = stage.run(state)
    return state
