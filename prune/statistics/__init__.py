"""Second moments of readers' inputs and of gradients, from passes over the pruning data."""

from zoo.prune.statistics.fisher import output_weights
from zoo.prune.statistics.gram import contributions, finite, gram_matrix
from zoo.prune.statistics.moments import HELD, Moments, ReaderMoments

__all__ = [
    "HELD",
    "Moments",
    "ReaderMoments",
    "contributions",
    "finite",
    "gram_matrix",
    "output_weights",
]
