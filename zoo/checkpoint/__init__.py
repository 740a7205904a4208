"""Files of weights: the zoo's own checkpoints, and the state dicts of others."""

from zoo.checkpoint.state_dict import check_fit, large_weights, load_weights, read_state, read_weights_file
from zoo.checkpoint.unwrap import FoundWeights
from zoo.checkpoint.zoo_format import check_dense_size, load, pack, read_header, save

__all__ = [
    "FoundWeights", "check_dense_size", "check_fit", "large_weights", "load", "load_weights", "pack", "read_header",
    "read_state", "read_weights_file", "save",
]  # fmt: skip
