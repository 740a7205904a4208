"""The one error class that crosses the package's border."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ZooError(Exception):
    """Something the user can mend: the message says what came, what was expected and what to type.

    The command line prints the message alone and leaves with exit code 2.
    """


def suggest(word: str, known: Iterable[str]) -> str:
    """A half sentence that names the nearest known words, or all of them if none is near.

    >>> suggest("dgcn", ["dgcnn", "vgg11"])
    'did you mean dgcnn?'
    """
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known are: {', '.join(known)}"


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or the name of its class where the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
