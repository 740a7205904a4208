"""The training loop, its recipes, losses, log and resume file."""

from zoo.train.log import check_log
from zoo.train.loop import train
from zoo.train.losses import distillation_loss
from zoo.train.recipe import Recipe, read_recipe, recipe_for

__all__ = ["Recipe", "check_log", "distillation_loss", "read_recipe", "recipe_for", "train"]
