"""How many neurons each group keeps within a budget of MACs, parameters or milliseconds."""

from zoo.prune.budget.allocation import allocate
from zoo.prune.budget.budgeted import Tried, at_one_eps, costs_of
from zoo.prune.budget.cost_model import macs_of
from zoo.prune.budget.sensitivity import curves

__all__ = [
    "Tried",
    "allocate",
    "at_one_eps",
    "costs_of",
    "curves",
    "macs_of",
]
