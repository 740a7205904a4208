"""The card: a small JSON file beside each checkpoint that says what it is, how it was made and what was measured.

Cards are read without torch. They come from mirrors as well as from this machine, so reading one is strict: a field
that is not known, of another type, or that contradicts another one is refused with the reason. A number that was not
measured is absent. The accuracy's interval is computed again at load, so a card cannot state a wrong one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from zoo.cards import json_schema, licences, names
from zoo.cards.accuracy import Accuracy
from zoo.cards.licences import Licences
from zoo.datasets import list_datasets
from zoo.errors import ZooError

SCHEMA = 2  # 1 had no terms of the parent's weights; cards of it are still read
TASKS = {2: "point-cloud classification", 3: "image classification"}  # by the axes of one input

# A setting: a scalar of JSON, or a short list of them.
Value: TypeAlias = str | int | float | bool | tuple[str | int | float | bool | None, ...] | None

_HASH = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)\b.*")
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class Forward:
    """One timing of the forward pass; ``ratio`` is the parent's time over the own, measured side by side.

    ``device`` begins with its torch type: ``cpu`` or ``cuda: NVIDIA H100``. Times in milliseconds stand only where
    the device is an accelerator: a processor's depend on the machine's other work, its ratios hardly do.
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
    """The checkpoint's file: a plain name in the card's own folder, its bytes and their SHA-256.

    ``weights`` is ``float16`` where matrices and kernels are stored so, ``mixed`` where only some of them are
    (`zoo.half_precision`), else absent: all are float32.
    """

    name: str
    size: int
    sha256: str
    weights: str | None = None

    def __post_init__(self) -> None:
        if not _FILE.fullmatch(self.name) or ".." in self.name or len(self.name) > 200:
            raise ZooError(f"file: {self.name!r} is not a plain file name that ends in .safetensors")
        if self.size < 1:
            raise ZooError(f"file: size {self.size} is below 1")
        if not _HASH.fullmatch(self.sha256):
            raise ZooError(f"file: sha256 {self.sha256!r} is not 64 hexadecimal digits in small letters")
        if self.weights not in (None, "float16", "mixed"):
            raise ZooError(f"file: weights {self.weights!r} is neither float16 nor mixed, and is left out for float32")


@dataclass(frozen=True, kw_only=True)
class Card:
    """One entry of the zoo. ``file`` is absent only until the entry is saved: `zoo.store.save_entry` fills it in.

    ``zoo.models.build(arch, num_classes=num_classes, widths=widths, **options)`` builds the network.
    ``recipe["command"]`` is the exact command that makes it again. ``macs`` counts convolutions and linear layers;
    ``macs_paper`` adds two per batch-norm element, as the paper does; the two never stand in one table.
    """

    schema: int = SCHEMA
    name: str
    arch: str
    dataset: str
    num_classes: int
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
            raise ZooError(f"card {self.name!r}: {error}") from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Card:
        """Read a card; every field is checked. A card of schema 1 becomes one of this schema.

        Raises:
            ZooError: not JSON, a newer schema, or a field that is unknown, missing, of another type or wrong.
        """
        data = json_schema.loads(text)
        schema = data.get("schema") if isinstance(data, dict) else None
        if isinstance(data, dict) and schema == 1 and schema is not True:
            data = licences.from_schema_1(data)
        if isinstance(schema, int) and schema > SCHEMA:
            raise ZooError(
                f"the card has schema {schema}, this version of the zoo reads {SCHEMA}: "
                "type pip install --upgrade pruned-zoo"
            )
        card = json_schema.read(cls, data, "card")
        if card.file is None:
            raise ZooError(f"card {card.name!r}: the field file is missing")
        return card

    @classmethod
    def of_entry(cls, text: str | bytes, name: str) -> Card:
        """Read the card that lies under an entry's name, and see that it is this entry's."""
        card = cls.from_json(text)
        if card.name != name:
            raise ZooError(f"it is the card of {card.name}, not of {name}")
        return card

    @property
    def saved(self) -> File:
        """The file's record; a card that was read has one.

        Raises:
            ZooError: the entry is not saved yet.
        """
        if self.file is None:
            raise ZooError(f"card {self.name!r} has no file yet: save the entry first (zoo.store.save_entry)")
        return self.file

    def parent_in(self, known: Mapping[str, Card]) -> Card | None:
        """The parent's card, if it is among these and of the network that this one was made from: an entry that was
        made anew under its name since then is another one."""
        parent, hashed = known.get(self.parent or ""), self.recipe.get("parent_sha256")
        anew = parent is not None and hashed is not None and hashed != parent.saved.sha256
        return None if anew else parent

    @property
    def task(self) -> str:
        """What the network is for, told by the shape of its inputs."""
        return TASKS.get(len(self.sample_shape), "classification")

    def to_json(self) -> str:
        """The card as text: the same card gives the same bytes, keys sorted, a newline at the end."""
        return json_schema.dumps(self)


def _check(card: Card) -> None:
    if card.schema != SCHEMA:
        raise ZooError(f"schema {card.schema} is not {SCHEMA}; of older ones only cards of schema 1 are read")
    name = names.parse_name(card.name)
    for what, text in (("arch", card.arch), ("dataset", card.dataset)):
        if not _WORD.fullmatch(text):
            raise ZooError(f"{what} {text!r} is not a word of small letters, digits, '-' and '_'")
    # Only known data sets are held against the name: a user's own my.net is no claim about a data set called net.
    if name.dataset in list_datasets() and name.dataset != card.dataset:
        raise ZooError(f"the name says data set {name.dataset}, the card says {card.dataset}")
    if card.parent is not None and str(names.parse_name(card.parent)) == card.name:
        raise ZooError("an entry cannot be its own parent")
    for what, count, least in (
        ("num_classes", card.num_classes, 1),
        ("parameters", card.parameters, 0),
        ("macs", card.macs or 0, 0),
        ("macs_paper", card.macs_paper or 0, 0),
        *((f"widths: {group}", width, 1) for group, width in card.widths.items()),
        *((f"sample_shape[{axis}]", length, 1) for axis, length in enumerate(card.sample_shape)),
    ):
        if count < least:
            raise ZooError(f"{what} is {count}; at least {least} is possible")
    if not card.sample_shape:
        raise ZooError("sample_shape is empty; write the shape of one input, as [3, 512]")
    command = card.recipe.get("command")
    if not isinstance(command, str) or not command.strip():
        raise ZooError("recipe: command, the exact command line, is missing")
    if card.cross_entropy is not None and not 0 <= card.cross_entropy < math.inf:
        raise ZooError(f"cross_entropy {card.cross_entropy} is not a number from 0 up")
    if card.parent is None and (card.parent_accuracy or any(record.ratio for record in card.forward)):
        raise ZooError("parent_accuracy and forward ratios need a parent")
    licences.check_parent(card.licences, card.parent)
    own, parents = card.accuracy, card.parent_accuracy
    if parents and (own is None or (own.split, own.total) != (parents.split, parents.total)):
        raise ZooError("parent_accuracy must be measured in the same run: on the same split and as many samples")
    # A card names its own file and no other: else it could lead to another entry's, or to one that is none.
    if card.file is not None and card.file.name != (due := f"{card.name}-{card.file.sha256[:8]}.safetensors"):
        raise ZooError(f"file: the name is {card.file.name}, of this entry and SHA-256 it must be {due}")
