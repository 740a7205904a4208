"""SIGTERM and Ctrl-C on the command line: a sentence and exit code 143 or 130, so that files and processes in use are
cleaned up."""

from __future__ import annotations

import os
import signal
import threading

from zoo.utils import say

RESUMED = ("finetune", "reprune", "train")  # these commands go on where they were stopped


def install_sigterm_handler() -> None:
    """End the process with a sentence on SIGTERM; called where the process is the command's own, never by the library.

    A host program, a test runner for instance, that calls commands as functions keeps its own handler: what the handler
    raises would end the call and not the program. Only the main thread can install one.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, exit_on_sigterm)


def exit_on_sigterm(number: int, frame: object) -> None:
    say("Stopped (SIGTERM). The same command goes on from what it has saved, if anything.")
    raise SystemExit(128 + number)  # no subclass of Exception, which some code might catch


def exit_on_sigint(command: str | None) -> int:
    """Print a sentence about Ctrl-C, in the first of several processes; the exit code of the process."""
    if os.environ.get("RANK", "0") == "0":
        kept = " What is done is kept, and the same command goes on from there." if command in RESUMED else ""
        say(f"\nStopped (Ctrl-C).{kept}")
    return 128 + signal.SIGINT
