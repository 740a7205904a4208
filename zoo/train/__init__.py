"""The training loop, its recipes, losses, log and resume file. Recipes are read without torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo.train.recipe import Recipe, read_recipe, recipe_for

if TYPE_CHECKING:
    from zoo.train.log import check_log
    from zoo.train.loop import train
    from zoo.train.losses import distillation_loss

__all__ = ["Recipe", "check_log", "distillation_loss", "read_recipe", "recipe_for", "train"]

_LAZY = {"check_log": "log", "train": "loop", "distillation_loss": "losses"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"zoo.train.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
