"""Names of entries: ``arch[-pruned][-<w>x][.dataset]``, for example ``dgcnn-pruned-0.5x.shapes``.

The last dot separates the stem from the data set, if a letter follows it: the dot of ``0.5x`` is no separator, because
names of data sets begin with a letter. Names become file names, so that none may hold a path separator.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from zoo.datasets import datasets_by_difficulty
from zoo.errors import ZooError, suggest
from zoo.utils import WEIGHTS_SUFFIXES

_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]*")
MAX_NAME_LENGTH = 120  # leaves room for what the store adds to a file name, of at most 255 characters
_RESERVED = ("index",)  # index.json lists the cards of a mirror


@dataclass(frozen=True)
class Name:
    """Stem and data set of an entry's name; ``str(name)`` joins them again."""

    stem: str
    dataset: str | None = None

    def __str__(self) -> str:
        return self.stem if self.dataset is None else f"{self.stem}.{self.dataset}"


def parse_name(text: str) -> Name:
    """Split a name into stem and data set.

    >>> parse_name("dgcnn-pruned-0.5x.shapes")
    Name(stem='dgcnn-pruned-0.5x', dataset='shapes')
    >>> parse_name("dgcnn-pruned-0.5x")
    Name(stem='dgcnn-pruned-0.5x', dataset=None)

    Raises:
        ZooError: the text is no name (capitals, a slash, two dots in a row, too long, reserved).
    """
    if not _PATTERN.fullmatch(text) or ".." in text:
        raise ZooError(
            f"{text!r} is not a model name: write small letters, digits, '-', '_' and single dots, "
            "beginning with a letter or digit, as in dgcnn-pruned-0.5x.shapes"
        )
    if len(text) > MAX_NAME_LENGTH:
        raise ZooError(
            f"the model name {text[:40]!r}... has {len(text)} characters; at most {MAX_NAME_LENGTH} are allowed"
        )
    if text in _RESERVED:
        raise ZooError(f"{text!r} cannot be a model name: the zoo keeps a file of that name; choose another")
    return _split(text)


def check_name_text(name: object) -> None:
    """Raise ZooError for an argument that is not a string, where a name or a pattern is expected."""
    if not isinstance(name, str):
        raise ZooError(f"{name!r} is no name of an entry: zoo list shows those that there are")


def resolve_name(text: str, names: Iterable[str], *, preferred: Iterable[str] = ()) -> str:
    """The one of the full names ``names`` that ``text`` means.

    A full name means itself. A name without a data set means one of the entries with that stem: a ``preferred`` one
    (the user's own) before the others, and then the one on the most difficult data set.

    Raises:
        ZooError: there is no such entry; the message names near ones.
    """
    check_name_text(text)
    if "/" in text or text.endswith(WEIGHTS_SUFFIXES):
        raise ZooError(
            f"{text} is a file, not the name of an entry: zoo convert FILE --arch NETWORK --add NAME puts its weights "
            "into your zoo"
        )
    names = sorted(names)
    if text in names:
        return text
    parsed = [_split(name) for name in names]
    same_stem = [name for name in parsed if name.dataset is not None and name.stem == text]
    if same_stem:
        first = set(preferred)
        return str(min(same_stem, key=lambda name: (str(name) not in first, *_priority(name))))
    if not names:
        raise ZooError(f"no model {text!r}: the zoo is empty; make an entry with `zoo train` or set ZOO_MIRROR")
    # A text without a data set is compared with the stems: next to a long ending a typing error would hardly count.
    candidates = names if _split(text).dataset is not None else sorted({name.stem for name in parsed})
    raise ZooError(f"no model {text!r} in the zoo: {suggest(text.lower(), candidates)}")


def _split(text: str) -> Name:
    stem, dot, last = text.rpartition(".")
    return Name(stem, last) if dot and stem and last[:1].isalpha() else Name(text)


def _priority(name: Name) -> tuple[int, str]:
    """Sort key: the zoo's data sets from the most difficult one on, then other data sets by name."""
    dataset, ordered = name.dataset or "", datasets_by_difficulty()
    return (ordered.index(dataset) if dataset in ordered else len(ordered), dataset)
