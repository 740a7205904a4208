"""How networks are trained and fine-tuned: one frozen record, read from a small file per network.

The files lie in `zoo/train/recipes`, one per network; their comments name the source of every setting. Sections:

    [train] and [finetune]     fields of `Recipe` with their values; epochs, lr and batch_size must be there
    [train.shapes]             what is other than in [train] for that data set
    # ...                      a comment, on a line of its own or behind a value

Reading is strict: a section, a field or a value that is not possible is refused. One's own file has the same form.
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
    """Stochastic gradient descent with momentum; the rate rises over `warmup` epochs, then falls to `floor`
    along half a cosine, step by step.

    accumulate  in how many parts a batch runs, where a whole one would not fit; batch norm sees a part at a time
    average     above 0, the result is the exponential average of the weights, which keeps this part of itself at a step
    precision   float32, bfloat16 or float16: what products are taken in (autocast); weights stay float32
    distil      the part of the loss that is the divergence from a teacher instead of from the labels (Hinton, Vinyals,
                Dean 2015), at temperature 2
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
                raise ZooError(f"{what} is a part, from 0 up to 1; got {value}")
        for what in ("momentum", "label_smoothing"):
            if not 0 <= (value := getattr(self, what)) < 1:
                raise ZooError(f"{what} is a part, from 0 to below 1; got {value}")
        for what in ("weight_decay", "warmup", "floor"):
            if not 0 <= (value := getattr(self, what)) < math.inf:
                raise ZooError(f"{what} is {value}: it must be a number from 0 up")

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0, 1, ... of a run whose epochs have `steps` steps each."""
        warm = min(self.warmup, self.epochs - 1) * steps
        if step < warm:
            return self.lr * (step + 1) / warm
        floor = min(self.floor, self.lr)
        position = (step - warm) / (self.epochs * steps - warm)
        return floor + (self.lr - floor) * (1 + math.cos(math.pi * position)) / 2


def recipe_for(kind: str, arch: str, dataset: str) -> Recipe:
    """The recipe of kind "train" or "finetune" for a network, the one made for the data set if there is one.

    Raises:
        ZooError: there is none for the network.
    """
    folder = Path(str(resources.files("zoo.train").joinpath("recipes")))
    known = sorted(path.stem for path in folder.glob("[!.]*.ini"))
    if arch not in known:
        raise ZooError(f"there is no recipe to {kind} {arch}: recipes exist for {', '.join(known)}")
    return read_recipe(folder / f"{arch}.ini", kind, dataset)


def read_recipe(path: str | Path, kind: str, dataset: str) -> Recipe:
    """The recipe of kind "train" or "finetune" in a file, with what the file changes for the data set.

    The whole file is checked, the sections that are not asked for too.

    Raises:
        ZooError: it cannot be read, has no such section, or holds what is not possible; names file, section and field.
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
    found = recipes.get(f"{kind}.{dataset}") or recipes.get(kind)
    if found is None:
        there = ", ".join(f"[{name}]" for name in recipes) or "none"
        raise ZooError(f"the recipe {path} has no section [{kind}]; it has {there}")
    return found


def _settings(section: str, lines: dict[str, str]) -> dict[str, int | float | str]:
    """The values of one section, each of its field's type."""
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
            wanted = "a whole number" if types[name] is int else "a number"
            raise ZooError(f"[{section}]: {name} must be {wanted}, got {text!r}") from None
    return settings


def _recipe(section: str, sections: dict[str, dict[str, int | float | str]]) -> Recipe:
    """The recipe of one section; what a data set's section leaves out is its kind's."""
    settings = {**sections.get(section.partition(".")[0], {}), **sections[section]}
    missing = [f.name for f in fields(Recipe) if f.default is MISSING and f.name not in settings]
    if missing:
        raise ZooError(f"[{section}]: the field {missing[0]} is missing")
    try:
        return Recipe(**settings)  # type: ignore[arg-type]
    except ZooError as error:
        raise ZooError(f"[{section}]: {error}") from None
