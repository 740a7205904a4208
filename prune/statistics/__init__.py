"""Second moments of readers' inputs and of gradients, from passes over the pruning data."""

from zoo.prune.statistics.fisher import fisher_matrices
from zoo.prune.statistics.gram import check_finite, contributions, gram_matrix
from zoo.prune.statistics.input_matrix import observe_inputs
from zoo.prune.statistics.moments import VAL_EVERY, Moments, ReaderMoments

__all__ = [
    "VAL_EVERY", "Moments", "ReaderMoments", "check_finite", "contributions", "fisher_matrices", "gram_matrix",
    "observe_inputs",
]  # fmt: skip
