"""The one error class that crosses the package's border."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ZooError(Exception):
    """Something the user can fix: the message says what came, what was expected and what to type.

    The command line prints the message alone and leaves with exit code 2.
    """


def suggest(text: str, choices: Iterable[str]) -> str:
    """The end of an error message: the choices most similar to a text, or all choices if none is similar.

    >>> suggest("dgcn", ["dgcnn", "vgg11"])
    'did you mean dgcnn?'
    """
    choices = sorted(choices)
    if similar := difflib.get_close_matches(text, choices, n=3, cutoff=0.6):
        return f"did you mean {' or '.join(similar)}?"
    return f"known are: {', '.join(choices)}"


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or the name of its class where the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
