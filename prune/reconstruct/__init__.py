"""Readers' weights by least squares for the neurons that are kept, and neurons chosen for that."""

from zoo.prune.reconstruct.reconstruction import ReaderReconstruction

__all__ = ["ReaderReconstruction"]
