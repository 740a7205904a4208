"""Recipes: the hyperparameters of training and fine-tuning, read from one small file per network.

The files are in `zoo/train/recipes`; their comments name the source of every setting. They consist of

    [train] and [finetune]     fields of `Recipe` with their values; epochs, lr and batch_size must be there
    [train.shapes]             fields whose values differ from [train] for that data set
    # ...                      a comment, on its own line or after a value

Reading is strict: an unknown section or field and an impossible value are errors. A user's own file has the same form.
"""

from __future__ import annotations

import configparser
import math
from dataclasses import MISSING, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import get_type_hints

from zoo.datasets import list_datasets
from zoo.errors import ZooError, suggest
from zoo.utils import expand_path

KINDS = ("train", "finetune")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of stochastic gradient descent with momentum and a learning rate per step (`lr_at`).

    warmup      epochs in which the learning rate rises linearly to `lr`
    floor       learning rate at the end of the cosine decay that follows
    accumulate  number of parts in which a batch runs (gradient accumulation); batch norm sees one part at a time
    average     decay of the exponential moving average of the weights, which is then the result; 0 for no average
    precision   float32, bfloat16 or float16: the type of matrix products (autocast); weights stay float32
    distil      weight d of the distillation loss, 1 - d of the cross-entropy (`zoo.train.losses`)
    """

    epochs: int
    lr: float
    batch_size: int
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    warmup: int = 0
    floor: float = 0.0
    accumulate: int = 1
    average: float = 0.0
    precision: str = "float32"
    distil: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ZooError(f"{self.epochs} epochs train nothing: ask for 1 or more")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ZooError(f"a learning rate of {self.lr} is not possible: give a number above 0")
        if self.batch_size < 2:
            raise ZooError(f"a batch of {self.batch_size} is too small: batch norm needs 2 samples or more")
        if not 1 <= self.accumulate <= self.batch_size // 2:
            raise ZooError(
                f"a batch of {self.batch_size} in {self.accumulate} parts is not possible: batch norm needs parts of 2 "
                f"samples or more, so give 1 to {self.batch_size // 2}"
            )
        if self.precision not in PRECISIONS:
            raise ZooError(f"there is no precision {self.precision!r}: {suggest(self.precision, PRECISIONS)}")
        for what in ("average", "distil"):
            if not 0 <= (value := getattr(self, what)) <= 1 or (what == "average" and value == 1):
                raise ZooError(f"`{what}` is a part, from 0 up to 1; got {value}")
        for what in ("momentum", "label_smoothing"):
            if not 0 <= (value := getattr(self, what)) < 1:
                raise ZooError(f"{what} is a part, from 0 to below 1; got {value}")
        for what in ("weight_decay", "warmup", "floor"):
            if not 0 <= (value := getattr(self, what)) < math.inf:
                raise ZooError(f"{what} is {value}: it must be a number from 0 up")

    def lr_at(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of a step, counted from 0 over the whole run.

        With w steps of warm-up and n steps in all it is lr (step + 1) / w during the warm-up, then
        floor + (lr - floor) (1 + cos(pi (step - w) / (n - w))) / 2.
        """
        warmup_steps = min(self.warmup, self.epochs - 1) * steps_per_epoch
        if step < warmup_steps:
            return self.lr * (step + 1) / warmup_steps
        floor = min(self.floor, self.lr)
        position = (step - warmup_steps) / (self.epochs * steps_per_epoch - warmup_steps)
        return floor + (self.lr - floor) * (1 + math.cos(math.pi * position)) / 2


def recipe_for(kind: str, arch: str, dataset: str) -> Recipe:
    """The zoo's recipe of kind "train" or "finetune" for a network on a data set.

    A network without a recipe file uses that of the network which it names when it is registered
    (`zoo.models.register_model`).

    Raises ZooError for a network without a recipe.
    """
    folder = Path(str(resources.files("zoo.train").joinpath("recipes")))
    archs = sorted(path.stem for path in folder.glob("[!.]*.ini"))
    source: str | None = arch
    if arch not in archs:
        from zoo.models import list_architectures, recipe_of  # torch, which the networks with a file need not wait for

        source = recipe_of(arch) if arch in list_architectures() else arch
    if source not in archs:
        raise ZooError(
            f"there is no recipe to {kind} {arch}: recipes exist for {', '.join(archs)}; give one with `recipe=FILE`"
        )
    return read_recipe(folder / f"{source}.ini", kind, dataset)


def read_recipe(path: str | Path, kind: str, dataset: str) -> Recipe:
    """The recipe of kind "train" or "finetune" in a file, with the changes that the file makes for the data set.

    All sections of the file are checked.

    Raises ZooError, with file, section and field, for a file that cannot be read, has no such section, or holds an
    impossible value.
    """
    path = expand_path(path)
    parser = configparser.ConfigParser(
        delimiters=("=",), inline_comment_prefixes=("#",), interpolation=None, empty_lines_in_values=False,
        default_section="",
    )  # fmt: skip
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # LR is no field
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
        sections = {name: _settings(name, dict(parser[name])) for name in parser.sections()}
        recipes = {name: _recipe(name, sections) for name in sections}
    except configparser.Error as error:
        reason = " ".join(str(error).split())
        raise ZooError(f"{reason}; a recipe has sections as [train] and lines as lr = 0.1") from None
    except (OSError, ValueError) as error:
        raise ZooError(f"the recipe {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except ZooError as error:
        raise ZooError(f"the recipe {path}: {error}") from None
    recipe = recipes.get(f"{kind}.{dataset}") or recipes.get(kind)
    if recipe is None:
        sections_in_file = ", ".join(f"[{name}]" for name in recipes) or "none"
        raise ZooError(f"the recipe {path} has no section [{kind}]; it has {sections_in_file}")
    return recipe


def _settings(section: str, lines: dict[str, str]) -> dict[str, int | float | str]:
    """The fields and values of one section, converted to the types of the fields."""
    kind, _, dataset = section.partition(".")
    if kind not in KINDS:
        raise ZooError(f"there is no section [{section}]: {suggest(kind, KINDS)}")
    if section != kind and dataset not in list_datasets():
        raise ZooError(f"[{section}]: there is no data set {dataset!r}: {suggest(dataset, list_datasets())}")
    types = get_type_hints(Recipe)
    settings: dict[str, int | float | str] = {}
    for name, text in lines.items():
        if name not in types:
            raise ZooError(f"[{section}]: there is no field {name!r}: {suggest(name, types)}")
        try:
            settings[name] = types[name](text)
        except ValueError:
            expected = "a whole number" if types[name] is int else "a number"
            raise ZooError(f"[{section}]: {name} must be {expected}, got {text!r}") from None
    return settings


def _recipe(section: str, sections: dict[str, dict[str, int | float | str]]) -> Recipe:
    """The recipe of one section; [kind.dataset] inherits the fields of [kind]."""
    settings = {**sections.get(section.partition(".")[0], {}), **sections[section]}
    missing = [f.name for f in fields(Recipe) if f.default is MISSING and f.name not in settings]
    if missing:
        raise ZooError(f"[{section}]: the field {missing[0]} is missing")
    try:
        return Recipe(**settings)  # type: ignore[arg-type]
    except ZooError as error:
        raise ZooError(f"[{section}]: {error}") from None
