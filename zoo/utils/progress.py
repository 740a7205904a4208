"""Progress of long work on standard error: a bar on a terminal; in a file or a CI log a line every few seconds."""

from __future__ import annotations

import io
import sys
import threading
import weakref
from typing import Any

from zoo.errors import visible
from zoo.utils.output import bar_stream, say

SECONDS = 5.0  # between two lines where standard error is no terminal


def progress_bar(items: Any = None, title: str = "", *, show: bool = True, lines: bool = True, **options: Any) -> Any:
    """A `tqdm` bar over items, or over `total` steps: iterate over it, or call its `update` and `close`.

    title    stands before it
    show     False shows nothing
    lines    False shows nothing where standard error is no terminal
    options  of tqdm: total, initial, unit, unit_scale
    """
    from tqdm import tqdm  # not at the top: what lists and shows entries does without it

    class Bar(tqdm):  # type: ignore[type-arg]  # a generic class only for type checkers
        """Shows titles, which hold names of files and of classes, as `visible` text."""

        @property
        def format_dict(self) -> Any:
            shown = super().format_dict
            return {key: visible(value) if isinstance(value, str) else value for key, value in shown.items()}

    class Lines(Bar):
        """Prints what a bar would show as lines, also while one step takes long."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.ended = threading.Event()
            super().__init__(*args, **kwargs)
            threading.Thread(target=_print_lines, args=(weakref.ref(self), self.ended), daemon=True).start()

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            """Nothing: the thread prints."""

        def close(self) -> None:
            self.ended.set()
            super().close()

    if not show or sys.stderr is None:
        return tqdm(items, disable=True, **options)
    if sys.stderr.isatty():
        return Bar(items, title, leave=False, dynamic_ncols=True, file=bar_stream(), **options)
    if not lines:
        return tqdm(items, disable=True, **options)
    form = "{desc} {n_fmt}/{total_fmt}{postfix}, {elapsed} gone, {remaining} left"
    # What tqdm itself writes, "\r" to clear a bar, is for terminals.
    return Lines(items, title, bar_format=form, leave=False, file=io.StringIO(), **options)


def _print_lines(bar: weakref.ref[Any], ended: threading.Event) -> None:
    while not ended.wait(SECONDS):
        shown = bar()
        if shown is None:
            return
        say(str(shown))
        del shown
