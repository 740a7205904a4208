"""The card: a small JSON file beside each checkpoint that says what it is, how it was made and what was measured.

Cards are read without torch. A card may come from a foreign mirror, so reading is strict: a field that is unknown, of
another type, or in contradiction to another field is refused with the reason. A number that was not measured is absent.
The interval of the accuracy is computed again at load, so that a card cannot state a wrong one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from zoo.cards import json_schema, names
from zoo.cards.accuracy import Accuracy
from zoo.cards.licences import Licences, check_parent
from zoo.cards.old_defaults import write_out
from zoo.datasets import MAX_POINTS, dataset_info, dataset_title, list_datasets
from zoo.errors import ZooError, excerpt

SCHEMA = 2
MAX_CARD = 1 << 20  # bytes of a card's file; with a thousand names of classes it has some 20 kB
MAX_CLASS_NAMES = json_schema.MAX_LIST
MAX_CLASSES = 1_000_000
MAX_SAMPLE = 1 << 24  # numbers of one input: an image of 2364 x 2364 pixels; of a cloud, MAX_POINTS points
TASKS = {2: "point-cloud classification", 3: "image classification"}  # by the number of axes of one input

# A setting: a scalar of JSON, or a short list of them.
Value: TypeAlias = str | int | float | bool | tuple[str | int | float | bool | None, ...] | None

_HASH = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)\b.*")
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,119}")


@dataclass(frozen=True, kw_only=True)
class Forward:
    """One timing of the forward pass.

    device             its torch type first: ``cpu`` or ``cuda: NVIDIA H100``
    ratio              time of the parent divided by the entry's time, both measured in turns in one run
    ratio_low, _high   smallest and largest ratio over the rounds of the run
    median_ms, p95_ms  milliseconds; only for accelerators, because times on a CPU depend on the machine's other work
                       (ratios hardly do)
    """

    device: str
    torch: str
    batch: int
    dtype: str
    mode: str
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    median_ms: float | None = None
    p95_ms: float | None = None

    def __post_init__(self) -> None:
        for name in ("device", "torch", "dtype", "mode"):
            json_schema.check_label(f"forward: {name}", getattr(self, name))
        if not _DEVICE.fullmatch(self.device):
            raise ZooError(f"forward: device {self.device!r} must begin with cpu, cuda, mps or xpu")
        if self.batch < 1:
            raise ZooError(f"forward: batch {self.batch} is below 1")
        for name in ("ratio", "ratio_low", "ratio_high", "median_ms", "p95_ms"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ZooError(f"forward: {name} {value} is not a positive number")
        if self.device.startswith("cpu") and (self.median_ms is not None or self.p95_ms is not None):
            raise ZooError("forward: median_ms and p95_ms stand only where the device is a GPU; this one is a cpu")
        if self.ratio is None and self.median_ms is None:
            raise ZooError("forward: a record needs a ratio or, on a GPU, median_ms")
        if self.ratio_low is None and self.ratio_high is None:
            return
        if self.ratio is None or self.ratio_low is None or self.ratio_high is None:
            raise ZooError("forward: ratio_low and ratio_high come together and beside a ratio")
        if not self.ratio_low <= self.ratio <= self.ratio_high:
            raise ZooError(f"forward: ratio {self.ratio} lies outside {self.ratio_low} to {self.ratio_high}")


@dataclass(frozen=True, kw_only=True)
class File:
    """The checkpoint file: its name in the folder of the card, its size in bytes and its SHA-256.

    ``weights`` is ``float16`` if all matrices and kernels are stored in that type, ``mixed`` if some are
    (`zoo.half_precision`), and absent if all are float32.
    """

    name: str
    size: int
    sha256: str
    weights: str | None = None

    def __post_init__(self) -> None:
        if not _FILE.fullmatch(self.name) or ".." in self.name or len(self.name) > 200:
            raise ZooError(f"file: {excerpt(self.name)} is not a plain file name that ends in .safetensors")
        if self.size < 1:
            raise ZooError(f"file: size {self.size} is below 1")
        if not _HASH.fullmatch(self.sha256):
            raise ZooError(f"file: sha256 {excerpt(self.sha256)} is not 64 hexadecimal digits in small letters")
        if self.weights not in (None, "float16", "mixed"):
            raise ZooError(f"file: weights {excerpt(self.weights)} is neither float16 nor mixed; left out: float32")


@dataclass(frozen=True, kw_only=True)
class Card:
    """One entry of the zoo.

    ``zoo.models.build(arch, num_classes=num_classes, widths=widths, **options)`` builds the network, and
    ``recipe["command"]`` is the exact command that makes the entry again.

    classes       names of the classes, in the order of the outputs, where they are not those of a data set of the zoo
                  (`class_names` gives either)
    sample_shape  of one input: (3, N) for clouds, (3, H, W) for images
    parent        name of the entry that this one was made from and is compared with
    macs          multiply-accumulates of one forward pass: convolutions and linear layers
    macs_paper    the same with two more per batch-norm element, as the paper counts; never beside `macs` in one table
    file          absent only until the entry is saved (`zoo.workflows.save_entry`)
    """

    schema: int = SCHEMA
    name: str
    arch: str
    dataset: str
    num_classes: int
    classes: tuple[str, ...] | None = None
    sample_shape: tuple[int, ...]
    options: dict[str, Value] = field(default_factory=dict)
    widths: dict[str, int]
    parent: str | None = None
    recipe: dict[str, Value]
    accuracy: Accuracy | None = None
    parent_accuracy: Accuracy | None = None
    cross_entropy: float | None = None
    parameters: int
    macs: int | None = None
    macs_paper: int | None = None
    forward: tuple[Forward, ...] = ()
    file: File | None = None
    licences: Licences

    def __post_init__(self) -> None:
        try:
            _check(self)
        except ZooError as error:
            raise ZooError(f"card {excerpt(self.name)}: {error}") from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Card:
        """Read a card and check every field.

        Raises:
            ZooError: not JSON, a newer schema, or a field that is unknown, missing, of another type or wrong.
        """
        data = json_schema.loads(text)
        schema = data.get("schema") if isinstance(data, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise ZooError(
                f"the card has schema {schema}, this version of the zoo reads {SCHEMA}: "
                "type pip install --upgrade pruned-zoo"
            )
        if isinstance(data, dict) and isinstance(data.get("recipe"), dict):
            data["recipe"] = write_out(data["recipe"])
        card = json_schema.read(cls, data, "card")
        if card.file is None:
            raise ZooError(f"card {card.name!r}: the field file is missing")
        return card

    @classmethod
    def of_entry(cls, text: str | bytes, name: str) -> Card:
        """Read a card and check that it is the one of the entry ``name``."""
        card = cls.from_json(text)
        if card.name != name:
            raise ZooError(f"it is the card of {card.name}, not of {name}")
        return card

    @property
    def saved(self) -> File:
        """The record of the checkpoint file, which every card that was read has.

        Raises:
            ZooError: the entry is not saved yet.
        """
        if self.file is None:
            raise ZooError(f"card {self.name!r} has no file yet: save the entry first (zoo.workflows.save_entry)")
        return self.file

    def parent_in(self, cards: Mapping[str, Card]) -> Card | None:
        """The card of the parent, from cards by name; None if it is missing or was rebuilt.

        A parent was rebuilt if its checkpoint has another SHA-256 than the recipe's ``parent_sha256``.
        """
        parent, sha256 = cards.get(self.parent or ""), self.recipe.get("parent_sha256")
        rebuilt = parent is not None and sha256 not in (None, parent.saved.sha256)
        return None if rebuilt else parent

    @property
    def task(self) -> str:
        """What the network is for, such as "image classification": derived from the shape of its inputs."""
        return TASKS.get(len(self.sample_shape), "classification")

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes, in the order of the outputs: the card's, or the data set's; None if unknown."""
        if self.classes is not None:
            return self.classes
        known = dataset_info(self.dataset).classes if self.dataset in list_datasets() else ()
        return known if len(known) == self.num_classes else None

    @property
    def data_title(self) -> str:
        """How sentences call the data: the title of the data set, or the name of a folder of somebody's own."""
        folder = self.recipe.get("data_dir")
        return dataset_title(self.dataset) if folder is None else f"the folder {folder}"

    def to_json(self) -> str:
        """The card as JSON text: sorted keys and a newline at the end, so that equal cards give equal bytes."""
        return json_schema.dumps(self)


def _check(card: Card) -> None:
    if card.schema != SCHEMA:
        raise ZooError(f"schema {card.schema} is not {SCHEMA}: an early version wrote it; make the entry again")
    name = names.parse_name(card.name)
    for what, text in (("arch", card.arch), ("dataset", card.dataset)):
        if not _WORD.fullmatch(text):
            raise ZooError(f"{what} {excerpt(text)} is not a word of small letters, digits, '-' and '_'")
    # Only the zoo's own data sets count: the name my.net claims nothing about a data set called net.
    if name.dataset not in (None, card.dataset) and name.dataset in list_datasets():
        raise ZooError(f"the name says data set {name.dataset}, the card says {card.dataset}")
    if card.parent is not None and str(names.parse_name(card.parent)) == card.name:
        raise ZooError("an entry cannot be its own parent")
    for what, count, minimum in (
        ("num_classes", card.num_classes, 1),
        ("parameters", card.parameters, 0),
        ("macs", card.macs or 0, 0),
        ("macs_paper", card.macs_paper or 0, 0),
        *((f"widths: {group}", width, 1) for group, width in card.widths.items()),
        *((f"sample_shape[{axis}]", length, 1) for axis, length in enumerate(card.sample_shape)),
    ):
        if count < minimum:
            raise ZooError(f"{what} is {count}; at least {minimum} is possible")
    if not card.sample_shape:
        raise ZooError("sample_shape is empty; write the shape of one input, as [3, 512]")
    if math.prod(card.sample_shape) > MAX_SAMPLE:
        raise ZooError(f"sample_shape {excerpt(list(card.sample_shape))} has more than {MAX_SAMPLE} numbers")
    if len(card.sample_shape) == 2 and card.sample_shape[1] > MAX_POINTS:
        raise ZooError(f"sample_shape {excerpt(list(card.sample_shape))} has more than {MAX_POINTS} points")
    if card.num_classes > MAX_CLASSES:
        raise ZooError(f"num_classes is {card.num_classes}; at most {MAX_CLASSES} are possible")
    if card.classes is not None and not len({*card.classes, ""}) - 1 == len(card.classes) == card.num_classes:
        raise ZooError(f"classes holds {len(card.classes)} names; {card.num_classes} different ones were expected")
    command = card.recipe.get("command")
    if not isinstance(command, str) or not command.strip():
        raise ZooError("recipe: command, the exact command line, is missing")
    if card.cross_entropy is not None and not 0 <= card.cross_entropy < math.inf:
        raise ZooError(f"cross_entropy {card.cross_entropy} is not a number from 0 up")
    if card.parent is None and (card.parent_accuracy or any(record.ratio for record in card.forward)):
        raise ZooError("parent_accuracy and forward ratios need a parent")
    check_parent(card.licences, card.parent)
    accuracy, reference = card.accuracy, card.parent_accuracy
    if reference and (accuracy is None or (accuracy.split, accuracy.total) != (reference.split, reference.total)):
        raise ZooError("parent_accuracy must be measured in the same run: on the same split and as many samples")
    # Otherwise a card could lead to the file of another entry, or to a file that is no entry's.
    if card.file is not None and card.file.name != (expected := f"{card.name}-{card.file.sha256[:8]}.safetensors"):
        raise ZooError(f"file: the name is {card.file.name}, of this entry and SHA-256 it must be {expected}")
