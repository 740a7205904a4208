"""Which data set a command works on, in which form, and the checks that it suits a network."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import distributed, store
from zoo.cards import UNKNOWN, Card, Value
from zoo.datasets import dataset_info, dataset_title, list_datasets, load
from zoo.datasets.folder import user_folder_listing
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.datasets import LabelledDataset

_LOG = logging.getLogger("zoo")
_LONGEST = 40  # letters of a folder in the name of an entry


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

        With another data set than the entry's only the fields of `changes` count, but that the samples of the user's
        own folder have the form of the entry's.
        """
        changed = {key: value for key, value in vars(changes or cls()).items() if value not in (None, "", False)}
        if changes and changes.validation is not None:
            changed["validation"] = changes.validation
        if card.dataset == UNKNOWN and "dataset" not in changed:
            raise ZooError(f"{card.name} does not say which data set it was trained on: name it with `dataset=NAME`")
        form: dict[str, Any] = {"dataset": card.dataset}
        dataset = changed.get("dataset", card.dataset)
        if dataset == card.dataset or is_user_folder(dataset):
            form |= _shape_option(dataset, card.sample_shape)
            kept = ("mean", "std", *(["validation"] if dataset == card.dataset else []))
            form |= {key: card.recipe[key] for key in kept if key in card.recipe}
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

    @property
    def folder(self) -> str | None:
        """The name of the user's own folder, without the folders above it; None of the zoo's data sets."""
        if self.data_dir is None or not is_user_folder(self.dataset):
            return None
        name = Path(self.data_dir).expanduser().resolve().name
        return "".join(sign for sign in name if sign.isprintable()) or self.dataset

    @property
    def title(self) -> str:
        """How sentences call the data."""
        return dataset_title(self.dataset) if self.folder is None else f"the folder {self.folder}"

    @property
    def suffix(self) -> str:
        """What the name of an entry ends in: the data set, or the user's own folder in letters that names have."""
        if self.folder is None:
            return self.dataset
        word = re.sub(r"[^a-z0-9_]+", "-", self.folder.lower())[:_LONGEST].strip("-_")
        return word if word[:1].isalpha() and word not in list_datasets() else f"folder-{word}".rstrip("-")

    def identity(self) -> dict[str, Value]:
        """What tells runs apart on data that cards describe alike: the files of the user's own folder."""
        if not is_user_folder(self.dataset):
            return {}
        return {"files": user_folder_listing(self.dataset, self.data_dir).digest()}

    def recipe(self, loaded: LabelledDataset) -> dict[str, Value]:
        """The settings that give the same samples again, as cards state them, the defaults of the data set included.

        `data_dir` is left out, because it differs between machines; of the user's own folder the name is stated.
        """
        settings: dict[str, Value] = {"dataset": self.dataset, "data_dir": self.folder}
        settings |= _shape_option(self.dataset, loaded.sample_shape)
        settings |= {"mean": self.mean, "std": self.std, "validation": self.validation}
        return {key: value for key, value in settings.items() if value is not None}


def is_user_folder(dataset: str) -> bool:
    """Whether the name stands for a folder of the user's own."""
    return dataset in list_datasets() and dataset_info(dataset).kind is None


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


def check_classes(card: Card, spec: DataSpec, classes: Sequence[str]) -> None:
    """Raise ZooError unless the outputs of an entry are the classes of a data set: as many, and in a folder of the
    user's own of the same names."""
    if card.num_classes != len(classes):
        raise ZooError(
            f"{card.name} tells {card.num_classes} classes apart, but {spec.title} has {len(classes)}: "
            "use a data set with the same classes"
        )
    names = card.class_names
    if spec.folder is not None and names is not None and names != tuple(classes):
        ours, theirs = (", ".join(sorted({*one} - {*other})) for one, other in ((names, classes), (classes, names)))
        difference = f"it has {theirs} instead of {ours}" if ours else "in another order"
        raise ZooError(
            f"{card.name} tells other classes apart than {spec.title}: {difference}; "
            f"zoo finetune {card.name} makes a network for the new ones"
        )


def needs_new_head(card: Card, spec: DataSpec, loaded: LabelledDataset) -> bool:
    """Whether the outputs of an entry are other classes than those of the data that it is trained on."""
    if card.num_classes != loaded.num_classes:
        return True
    if card.dataset == spec.dataset and spec.folder is None:
        return False
    names = dataset_info(spec.dataset).classes or tuple(loaded.classes)
    return card.class_names is not None and card.class_names != names


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
        same = (ancestor.dataset, ancestor.recipe.get("data_dir")) == (spec.dataset, spec.folder)
        if same and float(fraction) < spec.validation:  # type: ignore[arg-type]  # a number
            _LOG.warning(
                "%s was trained on samples of this validation part, so what is counted on it says little of unseen "
                "ones: to choose by it, start from a network that zoo train --validation %g made",
                ancestor.name,
                spec.validation,
            )
            return
        names += [str(name) for name in (ancestor.recipe.get("start"), ancestor.parent) if name in cards]
