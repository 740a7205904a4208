"""Names of entries: ``arch[-pruned][-<w>x][.dataset]``, for example ``dgcnn-pruned-0.5x.shapes``.

The last dot separates the stem from the data set, if a letter follows it: the dot of ``0.5x`` is no separator, because
names of data sets begin with a letter. Names become file names, so that none may hold a path separator.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from zoo.datasets import datasets_by_difficulty
from zoo.errors import ZooError, excerpt, suggest
from zoo.utils import WEIGHTS_SUFFIXES

_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]*")
MAX_NAME_LENGTH = 120  # leaves room for what the store adds to a file name, of at most 255 characters
# What Windows takes for devices, whatever follows a dot, and the ends of names of other files.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}
_ENDINGS = (*WEIGHTS_SUFFIXES, ".json", ".")


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
        ZooError: the text is no name (capitals, a slash, two dots in a row, too long, the name of other files).
    """
    if len(text) > MAX_NAME_LENGTH:
        raise ZooError(
            f"the model name {excerpt(text)} has {len(text)} characters; at most {MAX_NAME_LENGTH} are allowed"
        )
    if not _PATTERN.fullmatch(text) or ".." in text:
        raise ZooError(
            f"{text!r} is not a model name: write small letters, digits, '-', '_' and single dots, "
            "beginning with a letter or digit, as in dgcnn-pruned-0.5x.shapes"
        )
    if text == "index":  # index.json lists the cards of a mirror
        raise ZooError(f"{text!r} cannot be a model name: the zoo keeps a file of that name; choose another")
    if text.partition(".")[0] in _DEVICES:
        raise ZooError(f"{text!r} cannot be a model name: Windows keeps it for a device; choose another")
    if text.endswith(_ENDINGS):
        raise ZooError(f"{text!r} cannot be a model name: it ends like the name of another file; choose another")
    return _split(text)


def check_name_text(name: object) -> None:
    """Raise ZooError for an argument that is not a string, where a name or a pattern is expected."""
    if not isinstance(name, str):
        raise ZooError(f"{name!r} is no name of an entry: zoo list shows those that there are")


def resolve_name(text: str, names: Iterable[str], *, preferred: Collection[str] = ()) -> str:
    """The one of the full names ``names`` that ``text`` means (`find_name`).

    Raises:
        ZooError: there is no such entry; the message names near ones.
    """
    check_name_text(text)
    names = list(names)
    name = find_name(text, names, preferred=preferred)
    if name is None:
        raise ZooError(unknown_name(text, names))
    return name


def find_name(text: str, names: Collection[str], *, preferred: Collection[str] = ()) -> str | None:
    """The one of the full names ``names`` that ``text`` means; None if it means none.

    A full name means itself. A name without a data set means one of the entries with that stem: a ``preferred`` one
    before the others, and then the one on the most difficult data set.
    """
    if text in names:
        return text
    start = f"{text}."
    family = [name for name in names if name.startswith(start) and name_stem(name) == text]
    ordered = datasets_by_difficulty()

    def priority(name: str) -> tuple[bool, int, str]:
        """Sort key: the zoo's data sets from the most difficult one on, then other data sets by name."""
        dataset = _split(name).dataset or ""
        return name not in preferred, ordered.index(dataset) if dataset in ordered else len(ordered), dataset

    return min(family, key=priority, default=None)


def unknown_name(text: str, names: Collection[str]) -> str:
    """What to answer to a name that means none of the full names ``names``: the near ones."""
    if "/" in text or text.endswith(WEIGHTS_SUFFIXES):
        return (
            f"{text} is a file, not the name of an entry: zoo convert FILE --arch NETWORK --add NAME puts its weights "
            "into your zoo"
        )
    if not names:
        return f"no model {text!r}: the zoo is empty; make an entry with `zoo train` or set ZOO_MIRROR"
    # A text without a data set is compared with the stems: next to a long ending a typing error would hardly count.
    candidates = names if _split(text).dataset is not None else set(map(name_stem, names))
    return f"no model {text!r} in the zoo: {suggest(text.lower(), candidates)}"


def name_stem(name: str) -> str:
    """An entry's name without its data set; of any text, where `parse_name` may raise."""
    return _split(name).stem


def _split(text: str) -> Name:
    stem, dot, last = text.rpartition(".")
    return Name(stem, last) if dot and stem and last[:1].isalpha() else Name(text)
