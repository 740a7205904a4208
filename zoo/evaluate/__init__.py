"""Accuracy, MACs and forward times of a network."""

from zoo.evaluate.latency import MODES, Times, device_name, forward_times, prepare_call, processor_name, time_calls
from zoo.evaluate.loader import Samples, as_dataset, batch_indices, batches, model_device, num_samples
from zoo.evaluate.macs import Counts, count, count_layers
from zoo.evaluate.metrics import Evaluation, check_logits, eval_mode, evaluate

__all__ = [
    "MODES", "Counts", "Evaluation", "Samples", "Times", "as_dataset", "batch_indices", "batches", "check_logits",
    "count", "count_layers", "device_name", "eval_mode", "evaluate", "forward_times", "model_device", "num_samples",
    "prepare_call", "processor_name", "time_calls",
]  # fmt: skip
