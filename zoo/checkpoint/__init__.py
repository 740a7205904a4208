"""Files of weights: the zoo's own checkpoints, and the state dicts of others."""

from zoo.checkpoint.state_dict import check_fit, large_weights, load_weights, read_state
from zoo.checkpoint.zoo_format import MAX_CLASSES, load, pack, save

__all__ = ["MAX_CLASSES", "check_fit", "large_weights", "load", "load_weights", "pack", "read_state", "save"]
