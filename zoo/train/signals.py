"""Ctrl-C and SIGTERM during training: remembered, so that the run can be saved at the next step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals(catch: bool) -> Iterator[list[int]]:
    """A list that gets the number of the first SIGINT or SIGTERM; a second signal has its usual effect.

    Without `catch`, and outside the main thread, which alone gets signals, nothing is installed.
    """
    stopped: list[int] = []
    if not catch or threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def remember(number: int, frame: object) -> None:
        stopped.append(number)
        restore()

    for number in before:
        signal.signal(number, remember)
    try:
        yield stopped
    finally:
        restore()
