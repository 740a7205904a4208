"""What a command does from beginning to end: train, fine-tune, prune, evaluate and time an entry."""

from zoo.workflows.entry import Data, Run, choose_device, forward_record, held_for_halving, measure
from zoo.workflows.evaluation import bench_entries, evaluate_entry
from zoo.workflows.pruning import draw, reprune
from zoo.workflows.pruning_options import budget_of, repair_of
from zoo.workflows.save import save_entry
from zoo.workflows.training import finetune_entry, train_entry

__all__ = [
    "Data",
    "Run",
    "bench_entries",
    "budget_of",
    "choose_device",
    "draw",
    "evaluate_entry",
    "finetune_entry",
    "forward_record",
    "held_for_halving",
    "measure",
    "repair_of",
    "reprune",
    "save_entry",
    "train_entry",
]
