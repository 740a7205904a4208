"""The training loop, its recipes, losses, log and resume file. Recipes are read without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.train.recipe import Recipe, read_recipe, recipe_for
from zoo.utils import lazy_imports

if TYPE_CHECKING:
    from zoo.train.log import check_log
    from zoo.train.loop import train
    from zoo.train.losses import distillation_loss

__all__ = ["Recipe", "check_log", "distillation_loss", "read_recipe", "recipe_for", "train"]

__getattr__ = lazy_imports(__name__, __file__)
