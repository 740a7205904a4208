"""Names of entries: ``arch[-pruned][-<w>x][.dataset]``, for example ``dgcnn-pruned-0.5x.shapes``.

The dot of ``0.5x`` is no separator: a data set's name begins with a letter, so only a last dot that a letter
follows separates the stem from the data set. Names become file names, so nothing in them can leave a folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from zoo.datasets import datasets_by_difficulty
from zoo.errors import ZooError, suggest

_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]*")
_LONGEST = 120  # leaves room for what the store adds before a file system's limit of 255
_RESERVED = ("index",)  # index.json lists a mirror's cards


@dataclass(frozen=True)
class Name:
    """An entry's name in its two parts; ``str(name)`` puts them together again."""

    stem: str
    dataset: str | None = None

    def __str__(self) -> str:
        return self.stem if self.dataset is None else f"{self.stem}.{self.dataset}"


def parse_name(text: str) -> Name:
    """Split a name into stem and data set.

    >>> parse("dgcnn-pruned-0.5x.shapes")
    Name(stem='dgcnn-pruned-0.5x', dataset='shapes')
    >>> parse("dgcnn-pruned-0.5x")
    Name(stem='dgcnn-pruned-0.5x', dataset=None)

    Raises:
        ZooError: the text is no name (capitals, a slash, two dots in a row, too long, reserved).
    """
    if not _PATTERN.fullmatch(text) or ".." in text:
        raise ZooError(
            f"{text!r} is not a model name: write small letters, digits, '-', '_' and single dots, "
            "beginning with a letter or digit, as in dgcnn-pruned-0.5x.shapes"
        )
    if len(text) > _LONGEST:
        raise ZooError(f"the model name {text[:40]!r}... has {len(text)} characters; at most {_LONGEST} are allowed")
    if text in _RESERVED:
        raise ZooError(f"{text!r} cannot be a model name: the zoo keeps a file of that name; choose another")
    return _split(text)


def check_name_text(name: object) -> None:
    """Raise ZooError for what is no text, where a name or a pattern is expected."""
    if not isinstance(name, str):
        raise ZooError(f"{name!r} is no name of an entry: zoo list shows those that there are")


def resolve_name(text: str, known: Iterable[str]) -> str:
    """The full name of the entry that ``text`` means among the ``known`` full names.

    A name that is known means itself; a name without a data set means the entry on the most demanding one.

    Raises:
        ZooError: there is no such entry; the message names near ones.
    """
    check_name_text(text)
    known = sorted(known)
    if text in known:
        return text
    parts = [_split(name) for name in known]
    family = [part for part in parts if part.dataset is not None and part.stem == text]
    if family:
        return str(min(family, key=_priority))
    if not known:
        raise ZooError(f"no model {text!r}: the zoo is empty; make an entry with `zoo train` or set ZOO_MIRROR")
    # A name without a data set is compared with names without one, or the ending would drown a small slip.
    near = known if _split(text).dataset is not None else sorted({part.stem for part in parts})
    raise ZooError(f"no model {text!r} in the zoo: {suggest(text.lower(), near)}")


def _split(text: str) -> Name:
    stem, dot, last = text.rpartition(".")
    return Name(stem, last) if dot and stem and last[:1].isalpha() else Name(text)


def _priority(name: Name) -> tuple[int, str]:
    """Sorts the most difficult of the zoo's data sets first, those of a user's own last."""
    dataset, ordered = name.dataset or "", datasets_by_difficulty()
    return (ordered.index(dataset) if dataset in ordered else len(ordered), dataset)
