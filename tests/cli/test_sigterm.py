"""SIGTERM and Ctrl-C: the console script ends with a sentence, and a host program that calls commands keeps its own
handler."""

import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from zoo import distributed, store
from zoo.cli import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the signal is POSIX's")

SCRIPT = """
import os, signal
from zoo import store
from zoo.cli import main
store.cards = lambda mirror: os.kill(os.getpid(), signal.SIGTERM)
main(["list"], prog_name="zoo")
"""


def test_the_console_script_ends_with_a_sentence_and_exit_code_143() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (143, "")
    assert done.stderr == "Stopped (SIGTERM). The same command goes on from what it has saved, if anything.\n"


@pytest.mark.parametrize(
    ("command", "kept"),
    [("list", ""), ("reprune x --eps 1", " What is done is kept, and the same command goes on from there.")],
)
def test_ctrl_c_ends_with_a_sentence_and_exit_code_130(command: str, kept: str) -> None:
    script = SCRIPT.replace("SIGTERM", "SIGINT").replace('["list"]', repr(command.split()))
    check = "import zoo.workflows\nzoo.workflows.check_reprune = lambda *given, **named: store.cards(None)\n"
    script = script.replace("store.cards = ", f"{check}store.cards = ")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == f"\nStopped (Ctrl-C).{kept}\n"


def test_a_host_program_keeps_its_own_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """As pytest, which runs commands in its own process: SIGTERM is for the host, not for the command."""
    received: list[int] = []

    def own(number: int, frame: object) -> None:
        received.append(number)

    def cards(mirror: object) -> dict[str, object]:
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    before = signal.signal(signal.SIGTERM, own)
    try:
        monkeypatch.setattr(store, "cards", cards)
        result = CliRunner().invoke(main, ["list"])
        with distributed.process_group():
            assert signal.getsignal(signal.SIGTERM) is own
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM]
    assert (result.exit_code, "the zoo is empty" in result.stderr) == (0, True)


HOST = """
import os, signal
from click.testing import CliRunner
from zoo import store
from zoo.cli import main
main(["list"], standalone_mode=False)
assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
store.cards = lambda mirror: os.kill(os.getpid(), signal.SIGTERM)
CliRunner().invoke(main, ["list"])
print("goes on")
"""


def test_a_test_run_that_is_told_to_stop_stops() -> None:
    """click's runner swallows SystemExit: a handler that an earlier call had left behind would let the run go on."""
    done = subprocess.run([sys.executable, "-c", HOST], capture_output=True, text=True)
    assert "goes on" not in done.stdout
    assert done.returncode == -signal.SIGTERM
