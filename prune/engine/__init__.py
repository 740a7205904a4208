"""Running a gated network on the pruning data: discrepancies, gradients, cached activations."""

from zoo.prune.engine.activation_cache import Chain
from zoo.prune.engine.discrepancy import DISCREPANCIES, Target
from zoo.prune.engine.gates import Gates
from zoo.prune.engine.group_evaluator import Layer
from zoo.prune.engine.partial_sums import ENOUGH, Looks
from zoo.prune.engine.session import Workspace, repairer

__all__ = [
    "DISCREPANCIES",
    "ENOUGH",
    "Chain",
    "Gates",
    "Layer",
    "Looks",
    "Target",
    "Workspace",
    "repairer",
]
