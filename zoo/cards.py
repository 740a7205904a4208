"""The card: a small JSON file beside each checkpoint that says what it is, how it was made and what was measured.

Cards are read without torch. They come from mirrors as well as from this machine, so reading one is strict: a field
that is not known, of another type, or that contradicts another one is refused with the reason. A number that was not
measured is absent. The accuracy's interval is computed again at load, so a card cannot state a wrong one.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TypeAlias

from zoo import names, records
from zoo.errors import ZooError

SCHEMA = 1

# A setting: a scalar of JSON, or a short list of them.
Value: TypeAlias = str | int | float | bool | tuple[str | int | float | bool | None, ...] | None

_HASH = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.safetensors")
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)\b.*")
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]*")


def wilson(correct: int, total: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion, as fractions rounded to six digits.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, Journal of the
    American Statistical Association 22 (1927) 209-212. Unlike the textbook interval it stays inside [0, 1] and
    keeps its width at 0 and 100 %.

    >>> wilson(90, 100)
    (0.825634, 0.944771)
    """
    if not 0 <= correct <= total or total == 0:
        raise ZooError(f"an accuracy needs 0 <= correct <= total and total > 0; got {correct} of {total}")
    z = 1.959963984540054  # the normal distribution's 97.5 % point
    share = correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return round(max(0.0, centre - half), 6), round(min(1.0, centre + half), 6)


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Right answers on one split, with the Wilson interval of their share."""

    split: str
    correct: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, split: str, correct: int, total: int) -> Accuracy:
        """The record with its interval filled in."""
        low, high = wilson(correct, total)
        return cls(split=split, correct=correct, total=total, low=low, high=high)

    def __post_init__(self) -> None:
        low, high = wilson(self.correct, self.total)
        if max(abs(self.low - low), abs(self.high - high)) > 1e-6:
            raise ZooError(
                f"the interval {self.low} to {self.high} is not that of {self.correct} of {self.total}: "
                f"it is {low} to {high}"
            )

    @property
    def share(self) -> float:
        return self.correct / self.total


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
    """The checkpoint's file: a plain name in the card's own folder, its bytes and their SHA-256."""

    name: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        if not _FILE.fullmatch(self.name) or ".." in self.name or len(self.name) > 200:
            raise ZooError(f"file: {self.name!r} is not a plain file name that ends in .safetensors")
        if self.size < 1:
            raise ZooError(f"file: size {self.size} is below 1")
        if not _HASH.fullmatch(self.sha256):
            raise ZooError(f"file: sha256 {self.sha256!r} is not 64 hexadecimal digits in small letters")


@dataclass(frozen=True, kw_only=True)
class Licences:
    """Terms of use, apart: the code's, the weights', the training data's."""

    code: str
    weights: str
    data: str

    def __post_init__(self) -> None:
        for name in ("code", "weights", "data"):
            if not getattr(self, name).strip():
                raise ZooError(f"licences: {name} is empty; write 'unknown' where it is not known")


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
        """Read a card; every field is checked.

        Raises:
            ZooError: not JSON, a newer schema, or a field that is unknown, missing, of another type or wrong.
        """
        data = records.loads(text)
        schema = data.get("schema") if isinstance(data, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise ZooError(
                f"the card has schema {schema}, this version of the zoo reads {SCHEMA}: "
                "type pip install --upgrade pruned-zoo"
            )
        card = records.read(cls, data, "card")
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

    def to_json(self) -> str:
        """The card as text: the same card gives the same bytes, keys sorted, a newline at the end."""
        return records.dumps(self)


def _check(card: Card) -> None:
    if card.schema != SCHEMA:
        raise ZooError(f"schema {card.schema} is not {SCHEMA}")
    name = names.parse(card.name)
    for what, text in (("arch", card.arch), ("dataset", card.dataset)):
        if not _WORD.fullmatch(text):
            raise ZooError(f"{what} {text!r} is not a word of small letters, digits, '-' and '_'")
    # Only known data sets are held against the name: a user's own my.net is no claim about a data set called net.
    if name.dataset in names.DATASETS and name.dataset != card.dataset:
        raise ZooError(f"the name says data set {name.dataset}, the card says {card.dataset}")
    if card.parent is not None and str(names.parse(card.parent)) == card.name:
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
    own, parents = card.accuracy, card.parent_accuracy
    if parents and (own is None or (own.split, own.total) != (parents.split, parents.total)):
        raise ZooError("parent_accuracy must be measured in the same run: on the same split and as many samples")
