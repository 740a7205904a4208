"""What a network costs as a function of its widths, without building it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.evaluate import count_layers
from zoo.models import CustomReader, NeuronGroup


@dataclass(frozen=True)
class _Term:
    """The cost of one weight: cost x (fraction of its rows that stay) x (fraction of its columns that stay).

    rows     the group whose neurons are the rows, or None
    free     columns that belong to no group, as a fraction of all
    columns  groups that own columns, and which fraction of all
    """

    cost: float
    rows: str | None
    free: float
    columns: tuple[tuple[str, float], ...]


class CostModel:
    """MACs of one sample, or parameters, for widths of the groups: exact, since a layer's cost is the number of its
    rows times that of its columns."""

    def __init__(self, terms: list[_Term], sizes: Mapping[str, int]) -> None:
        self.terms = terms
        self.sizes = dict(sizes)

    def __call__(self, widths: Mapping[str, int]) -> float:
        """The cost with these widths; a group that is not named is unpruned."""
        kept = {name: widths.get(name, size) / size for name, size in self.sizes.items()}
        total = 0.0
        for term in self.terms:
            rows = 1.0 if term.rows is None else kept[term.rows]
            total += term.cost * rows * (term.free + sum(share * kept[name] for name, share in term.columns))
        return total

    def cost_curve(self, group: str, widths: Mapping[str, int]) -> Tensor:
        """(N + 1,) what n = 0 ... N neurons of one group cost, while the others have these widths."""
        N = self.sizes[group]
        per_neuron = (self({**widths, group: N}) - self({**widths, group: 0})) / N
        return per_neuron * torch.arange(N + 1, dtype=torch.float64)


def macs_of(model: nn.Module, groups: list[NeuronGroup], sample: tuple[int, ...] | Tensor) -> CostModel:
    """MACs of convolutions and linear layers, as `zoo.evaluate.count` counts them."""
    layers = {}
    for module, (macs, _) in count_layers(model, sample).items():
        layers[module.weight_layer if isinstance(module, CustomReader) else module] = float(macs)
    return _cost(groups, list(layers.items()), [])


def parameters_of(model: nn.Module, groups: list[NeuronGroup]) -> CostModel:
    """Parameters of every kind.

    Raises ZooError where modules share one: cutting them apart makes it two.
    """
    parameters = list(model.named_parameters(remove_duplicate=False))
    if len({id(parameter) for _, parameter in parameters}) < len(parameters):
        raise ZooError("The network shares a parameter between modules: give a budget of MACs, not of parameters.")
    weights: list[tuple[nn.Module, float]] = []
    others: list[tuple[nn.Module, float]] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            (weights if name == "weight" else others).append((module, float(parameter.numel())))
    return _cost(groups, weights, others)


def _cost(
    groups: list[NeuronGroup], matrices: list[tuple[nn.Module, float]], vectors: list[tuple[nn.Module, float]]
) -> CostModel:
    """The model from costs of `matrices`, proportional to rows and columns, and of `vectors`, proportional to rows."""
    rows = {writer: group.name for group in groups for writer in group.writers}
    columns: dict[nn.Module, list[tuple[str, float]]] = {}
    for group in groups:
        for reader in group.readers:
            share = reader.all_columns.numel() / reader.weight.shape[1]
            columns.setdefault(reader.layer, []).append((group.name, share))
    terms = [_Term(cost, rows.get(layer), 1.0, ()) for layer, cost in vectors]
    for layer, cost in matrices:
        shares = tuple(columns.get(layer, ()))
        terms.append(_Term(cost, rows.get(layer), 1 - sum(share for _, share in shares), shares))
    return CostModel(terms, {group.name: group.size for group in groups})
