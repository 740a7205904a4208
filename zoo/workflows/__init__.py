"""What a command does from beginning to end: train, fine-tune, prune, evaluate and time an entry.

The words of commands, the records and the checks of them can be imported without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.utils import lazy_imports
from zoo.workflows.command_words import SETTING_TYPES, command_line, stated_settings, translate_old_options

if TYPE_CHECKING:
    from zoo.workflows.checks import (
        check_bench,
        check_convert,
        check_eval,
        check_finetune,
        check_reprune,
        check_train,
        find_card,
    )
    from zoo.workflows.data_spec import DataSpec, holdout_split
    from zoo.workflows.evaluation import BenchmarkResult, EvaluationResult, bench_entries, evaluate_entry
    from zoo.workflows.measurement import Measurement, forward_record, measure
    from zoo.workflows.prediction import Guess, PredictionResult, predict_files
    from zoo.workflows.prune_spec import PruneSpec, WeightsFile
    from zoo.workflows.pruning import PruningResult, draw, reprune
    from zoo.workflows.recipes import Finetune
    from zoo.workflows.run import RunOptions, choose_device
    from zoo.workflows.save import EntryResult, save_entry
    from zoo.workflows.training import finetune_entry, train_entry

__all__ = [
    "SETTING_TYPES", "BenchmarkResult", "DataSpec", "EntryResult", "EvaluationResult", "Finetune", "Guess",
    "Measurement", "PredictionResult", "PruneSpec", "PruningResult", "RunOptions", "WeightsFile", "bench_entries",
    "check_bench", "check_convert", "check_eval", "check_finetune", "check_reprune", "check_train", "choose_device",
    "command_line", "draw", "evaluate_entry", "find_card", "finetune_entry", "forward_record", "holdout_split",
    "measure", "predict_files", "reprune", "save_entry", "stated_settings", "train_entry", "translate_old_options",
]  # fmt: skip

__getattr__ = lazy_imports(__name__, __file__)
