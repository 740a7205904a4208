"""The one error class that crosses the package's border, and text that a terminal shows as it is."""

from __future__ import annotations

import difflib
import heapq
import json
import re
from collections.abc import Callable, Iterable
from itertools import takewhile

_LISTED = 40  # names in a message
_COMPARED = 1000  # names that a mistyped one is compared with

# What a terminal obeys, or shows as nothing or elsewhere, instead of as a character: the categories Cc, Cf, Cs, Zl and
# Zp of Unicode, with the tags and supplementary selectors around U+E0000, and the fillers that are letters by category.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180e"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


class ZooError(Exception):
    """Something the user can fix: the message says what came, what was expected and what to type.

    The command line prints the message alone and leaves with exit code 2. The message is one line, and what a file or a
    server put into it is `visible`.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(visible(str(message)))


def visible(text: str, keep: str = "") -> str:
    """The text with control, bidirectional and zero-width characters, separators of lines and lone surrogates written
    as in JSON, so that JSON keeps its meaning: names in files that others wrote must not speak to the terminal.

    keep  characters that stay, such as the newline in a text of several lines

    >>> visible("a\\x1b[2Jb\\u202e")
    'a\\\\u001b[2Jb\\\\u202e'
    """
    return _HIDDEN.sub(lambda match: match[0] if match[0] in keep else json.dumps(match[0])[1:-1], text)


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
        return f"did you mean {' or '.join(excerpt(choice, str, 200) for choice in similar)}?"
    more = f", ... ({len(choices) - _LISTED} more)" if len(choices) > _LISTED else ""
    return f"known are: {', '.join(excerpt(choice, str, 200) for choice in choices[:_LISTED])}{more}"


def excerpt(value: object, write: Callable[[object], str] = repr, length: int = 60) -> str:
    """A value for a message: as `write` gives it, and of a text of more than ``length`` characters the beginning."""
    text = write(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."


def first_line(error: Exception) -> str:
    """The first line of an exception's message, at most 300 characters; the name of its class where it is empty."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= 300 else f"{line[:300]}..."
