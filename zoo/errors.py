"""The one error class that crosses the package's border."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Callable, Iterable
from itertools import takewhile

_LISTED = 40  # names in a message
_COMPARED = 1000  # names that a mistyped one is compared with
_EXCERPT = 60  # characters


class ZooError(Exception):
    """Something the user can fix: the message says what came, what was expected and what to type.

    The command line prints the message alone and leaves with exit code 2.
    """


def suggest(text: str, choices: Iterable[str]) -> str:
    """The end of an error message: the choices most similar to a text, or if none is similar the first choices.

    >>> suggest("dgcn", ["dgcnn", "vgg11"])
    'did you mean dgcnn?'
    """
    choices = sorted(choices)

    def common(choice: str) -> int:
        """The number of characters at both ends that a choice has in common with the text."""
        ends = zip(text, choice, strict=False), zip(text[::-1], choice[::-1], strict=False)
        return sum(1 for end in ends for _ in takewhile(lambda pair: pair[0] == pair[1], end))

    # A comparison takes up to a millisecond, and an index may list a hundred thousand names.
    compared = heapq.nlargest(_COMPARED, choices, key=common) if len(choices) > _COMPARED else choices
    if similar := difflib.get_close_matches(text, compared, n=3, cutoff=0.6):
        return f"did you mean {' or '.join(similar)}?"
    more = f", ... ({len(choices) - _LISTED} more)" if len(choices) > _LISTED else ""
    return f"known are: {', '.join(choices[:_LISTED])}{more}"


def excerpt(value: object, write: Callable[[object], str] = repr) -> str:
    """A value for a message: as `write` gives it, and of a long text the beginning alone."""
    text = write(value)
    return text if len(text) <= _EXCERPT else f"{text[: _EXCERPT - 3]}..."


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or the name of its class where the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
