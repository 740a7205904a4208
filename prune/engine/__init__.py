"""Running a gated network on the pruning data: discrepancies, gradients, cached activations."""

from zoo.prune.engine.activation_cache import ActivationCache
from zoo.prune.engine.discrepancy import Target
from zoo.prune.engine.gates import Gates
from zoo.prune.engine.group_evaluator import GroupEvaluator
from zoo.prune.engine.running_mean import MIN_SAMPLES
from zoo.prune.engine.session import PruningSession

__all__ = ["MIN_SAMPLES", "ActivationCache", "Gates", "GroupEvaluator", "PruningSession", "Target"]
