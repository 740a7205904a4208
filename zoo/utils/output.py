"""Text on its way to standard output and standard error: what comes from outside cannot speak to the terminal.

`visible_streams` covers all that a command prints, other libraries' warnings included. What the library itself prints
for whoever calls it goes through `say`, `zoo.utils.progress_bar`, the logger "zoo" and `ZooError`.
"""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from zoo.errors import visible


def say(text: str) -> None:
    """Print lines on standard error, where there is one, in the order of what else is printed there."""
    if sys.stderr is not None:
        print(visible(text, keep="\n"), file=sys.stderr, flush=True)


class VisibleStream:
    """A text stream in which all text is visible (`zoo.errors.visible`) and has characters of its encoding alone."""

    def __init__(self, stream: Any) -> None:
        self._wrapped = stream  # the name by which tqdm knows the same stream behind two objects

    def __getattr__(self, name: str) -> Any:
        if name == "fileno" and sys.platform == "win32":  # by which click would write to the console itself
            raise AttributeError(name)
        return getattr(self._wrapped, name)

    def write(self, text: str) -> int:
        shown = visible(text, keep="\n\t")
        try:
            shown.encode(getattr(self._wrapped, "encoding", None) or "utf-8")
        except UnicodeEncodeError:
            shown = "".join(char if char.isascii() else json.dumps(char)[1:-1] for char in shown)
        self._wrapped.write(shown)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    @property
    def buffer(self) -> _Buffer:
        """The same for text as bytes, which click writes for shell completion, and where the encoding is ASCII."""
        return _Buffer(self)


class _Buffer(io.RawIOBase):
    def __init__(self, stream: VisibleStream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data).decode("utf-8", "backslashreplace"))
        self._stream.flush()
        return len(data)


def make_streams_visible() -> None:
    """Let all that this process prints be visible from now on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, VisibleStream):
            setattr(sys, name, VisibleStream(stream))


@contextmanager
def visible_streams() -> Iterator[None]:
    """Let all that is printed inside be visible."""
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    make_streams_visible()
    ours = {name: getattr(sys, name) for name in before}
    try:
        yield
    finally:
        for name, stream in before.items():
            if getattr(sys, name) is ours[name]:  # or somebody else has replaced it meanwhile
                setattr(sys, name, stream)


def bar_stream() -> Any:
    """Standard error for bars, which move the cursor and make what they show visible themselves."""
    return sys.stderr._wrapped if isinstance(sys.stderr, VisibleStream) else sys.stderr


def _make_record_visible(record: logging.LogRecord) -> bool:
    record.msg, record.args = visible(record.getMessage()), ()
    return True


logging.getLogger("zoo").addFilter(_make_record_visible)
