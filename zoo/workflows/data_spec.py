"""Which data set a command works on, in which form, and the checks that it suits a network."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import distributed, store
from zoo.cards import UNKNOWN, Card, Value
from zoo.datasets import dataset_info, load
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.datasets import LabelledDataset

_LOG = logging.getLogger("zoo")


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """A data set and the form of its samples. A field that is left out is that of the entry, or of the data set.

    dataset     the name of the data set; "" is that of the entry
    data_dir    the folder that holds the files
    points      the number of points of a cloud
    size        the side of an image in pixels
    mean, std   of the channels of an image, by which the image is normalised
    download    whether files that are missing are fetched
    validation  the fraction of the training split that takes the place of the test split, for choices; 0 is none
    """

    dataset: str = ""
    data_dir: Path | None = None
    points: int | None = None
    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    download: bool = False
    validation: float | None = None

    @classmethod
    def of(cls, card: Card, changes: DataSpec | None = None) -> DataSpec:
        """The data that an entry was made with; the fields that `changes` sets take the place of the entry's.

        With another data set than the entry's only the fields of `changes` count.
        """
        changed = {key: value for key, value in vars(changes or cls()).items() if value not in (None, "", False)}
        if changes and changes.validation is not None:
            changed["validation"] = changes.validation
        if card.dataset == UNKNOWN and "dataset" not in changed:
            raise ZooError(f"{card.name} does not say which data set it was trained on: name it with `dataset=NAME`")
        form: dict[str, Any] = {"dataset": card.dataset}
        if changed.get("dataset", card.dataset) == card.dataset:
            form |= _shape_option(card.dataset, card.sample_shape)
            form |= {key: card.recipe[key] for key in ("mean", "std", "validation") if key in card.recipe}
        form |= changed
        if not card.recipe.get("validation"):
            form["validation"] = form.get("validation") or None  # 0 is stated only where the card has a fraction
        return cls(**form)

    def load(self, split: str, *, augment: bool = False) -> LabelledDataset:
        """The samples of a split, "train" or "test".

        With `validation` that fraction of the training split is "test", and the rest of it "train". Each process loads
        the data; files that are missing are fetched by one process of each machine.
        """
        if self.download:
            return distributed.local_rank0_first(lambda: self._load(split, augment))
        return self._load(split, augment)

    def _load(self, split: str, augment: bool) -> LabelledDataset:
        form = {key: value for key, value in vars(self).items() if key not in ("dataset", "validation")}
        if not self.validation:
            return load(self.dataset, split, augment=augment, **form)
        from zoo.datasets import train_val_split

        train, validation = train_val_split(load(self.dataset, "train", augment=augment, **form), self.validation)
        return train if split == "train" else validation

    @property
    def test_name(self) -> str:
        """What cards call the samples of `load("test")`."""
        return "validation" if self.validation else "test"

    def recipe(self, loaded: LabelledDataset) -> dict[str, Value]:
        """The settings that give the same samples again, as cards state them, the defaults of the data set included.

        `data_dir` is left out: it differs between machines.
        """
        settings: dict[str, Value] = {"dataset": self.dataset, **_shape_option(self.dataset, loaded.sample_shape)}
        settings |= {"mean": self.mean, "std": self.std, "validation": self.validation}
        return {key: value for key, value in settings.items() if value is not None}


def _shape_option(dataset: str, sample_shape: Sequence[int]) -> dict[str, int]:
    """The option that gives samples of this shape; none where the data set has one shape only."""
    option = "points" if len(sample_shape) == 2 else "size"
    return {option: sample_shape[-1]} if option in dataset_info(dataset).options else {}


@dataclass(frozen=True)
class Splits:
    """The samples of one command: to train on, to count right answers on and, for float16 weights, held out of training
    to compare decisions on."""

    spec: DataSpec
    train: LabelledDataset
    test: LabelledDataset
    holdout: LabelledDataset | None = None

    @classmethod
    def load(cls, spec: DataSpec, *, augment: bool = False, holdout: bool = False) -> Splits:
        """All of them, the training samples augmented if asked for."""
        return cls(
            spec, spec.load("train", augment=augment), spec.load("test"), holdout_split(spec) if holdout else None
        )

    @property
    def validation(self) -> LabelledDataset | None:
        """The samples that may be evaluated after every epoch: those of "test" where they are a part of the training
        split, none otherwise."""
        return self.test if self.spec.validation else None


def holdout_split(spec: DataSpec) -> LabelledDataset:
    """The part of the training split that is held out for choices; `half_precision.HELD_OUT` of it where none is.

    Raises ZooError where the split is too small for that.
    """
    from zoo.half_precision import HELD_OUT

    return replace(spec, validation=spec.validation or HELD_OUT).load("test")


def check_num_classes(name: str, classes: int, spec: DataSpec, loaded: LabelledDataset) -> None:
    """Raise ZooError unless a network with so many outputs suits the data set that was loaded."""
    if classes != loaded.num_classes:
        raise ZooError(
            f"{name} tells {classes} classes apart, but {spec.dataset} has {loaded.num_classes}: "
            "use a data set with the same classes"
        )


def warn_if_trained_on_validation(card: Card, spec: DataSpec) -> None:
    """Log a warning if the network, or one that it was made from, was trained on samples of the validation part."""
    if not spec.validation or distributed.rank() > 0:
        return
    cards, names, visited = store.cards(), [card.name], set[str]()
    while names:
        ancestor = cards.get(names.pop(0), card)
        if ancestor.name in visited:
            continue
        visited.add(ancestor.name)
        fraction = ancestor.recipe.get("validation") or 0.0
        # A smaller part lies within a larger one (`zoo.datasets.train_val_split`).
        if ancestor.dataset == spec.dataset and float(fraction) < spec.validation:  # type: ignore[arg-type]  # a number
            _LOG.warning(
                "%s was trained on samples of this validation part, so what is counted on it says little of unseen "
                "ones: to choose by it, start from a network that zoo train --validation %g made",
                ancestor.name,
                spec.validation,
            )
            return
        names += [str(name) for name in (ancestor.recipe.get("start"), ancestor.parent) if name in cards]
