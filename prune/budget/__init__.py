"""How many neurons each group keeps within a budget of MACs, parameters or milliseconds."""

from zoo.prune.budget.allocation import allocate
from zoo.prune.budget.cost_model import CostModel, macs_of, parameters_of
from zoo.prune.budget.costs import Costs, costs_of
from zoo.prune.budget.eps_search import EpsTrials, find_eps
from zoo.prune.budget.latency_table import LatencyTable, measure_latency
from zoo.prune.budget.sensitivity import sensitivity_curves

__all__ = [
    "CostModel", "Costs", "EpsTrials", "LatencyTable", "allocate", "costs_of", "find_eps", "macs_of",
    "measure_latency", "parameters_of", "sensitivity_curves",
]  # fmt: skip
