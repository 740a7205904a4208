"""Running a gated network on the pruning data: discrepancies, gradients, cached activations."""

from zoo.prune.engine.activation_cache import ActivationCache
from zoo.prune.engine.discrepancy import DISCREPANCIES, Target
from zoo.prune.engine.gates import Gates
from zoo.prune.engine.group_evaluator import GroupEvaluator
from zoo.prune.engine.partial_sums import MIN_SAMPLES, EvaluationCache
from zoo.prune.engine.session import PruningSession, repairer

__all__ = [
    "DISCREPANCIES",
    "MIN_SAMPLES",
    "ActivationCache",
    "EvaluationCache",
    "Gates",
    "GroupEvaluator",
    "PruningSession",
    "Target",
    "repairer",
]
