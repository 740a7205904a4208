"""Accuracy, MACs and forward times of a network."""

from zoo.evaluate.loader import Samples, as_dataset, batches, consecutive, model_device, size_of
from zoo.evaluate.measure import Counts, Times, count, count_layers, device_name, forward_times
from zoo.evaluate.metrics import Evaluation, check_logits, eval_mode, evaluate

__all__ = [
    "Counts",
    "Evaluation",
    "Samples",
    "Times",
    "as_dataset",
    "batches",
    "check_logits",
    "consecutive",
    "count",
    "count_layers",
    "device_name",
    "eval_mode",
    "evaluate",
    "forward_times",
    "model_device",
    "size_of",
]
