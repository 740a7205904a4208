"""Text from outside on its way to a terminal: what a terminal obeys or hides is written out, at every door."""

from __future__ import annotations

import ast
import io
import json
import logging
import sys
import unicodedata
from pathlib import Path

import pytest

from zoo.errors import ZooError, visible
from zoo.utils import progress_bar, say, visible_streams
from zoo.utils.output import VisibleStream

ROOT = Path(__file__).parents[2]
HOSTILE = "\x1b]0;t\x07\x1b[2J\r\n\x7f\x9b1m\u202e\u2066\u200b\u2028\ufeff\U000e0041\udc9b"
SHOWN = r"\u001b]0;t\u0007\u001b[2J\r\n\u007f\u009b1m\u202e\u2066\u200b\u2028\ufeff\udb40\udc41\udc9b"
HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_every_character_that_a_terminal_obeys_or_hides_is_written_out() -> None:
    hidden = [char for char in map(chr, range(0x110000)) if unicodedata.category(char) in HIDDEN_CATEGORIES]
    assert len(hidden) > 2000
    assert [char for char in hidden if visible(char) == char] == []
    shown = [char for char in map(chr, range(0x110000)) if char.isprintable() and visible(char) != char]
    assert shown == list("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") + [chr(c) for c in range(0xE0100, 0xE01F0)]
    assert visible(HOSTILE) == SHOWN
    assert visible("a\nb\tc\r", keep="\n\t") == "a\nb\tc\\r"
    assert visible(visible(HOSTILE)) == visible(HOSTILE)


def test_json_means_the_same_afterwards() -> None:
    text = json.dumps({"a": [HOSTILE, "ä\\u001b"]}, ensure_ascii=False)
    assert json.loads(visible(text)) == json.loads(text)


def test_an_error_is_one_line_for_those_who_call_the_library_too() -> None:
    error = ZooError(f"no file {HOSTILE}")
    assert str(error) == f"no file {SHOWN}"
    assert isinstance(error.args, tuple)
    assert str(ZooError(*error.args)) == str(error)  # as pickle makes it again in another process


def test_warnings_of_the_library_are_visible_to_every_handler(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("zoo").warning("%s is left out", HOSTILE)
    assert caplog.messages == [f"{SHOWN} is left out"]


def test_lines_and_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    say(f"one\ntwo {HOSTILE[:4]}")
    assert terminal.getvalue() == "one\ntwo \\u001b]0;\n"
    with visible_streams():
        bar = progress_bar(title=HOSTILE, total=2)
        bar.update()
        bar.set_postfix_str(HOSTILE)
        bar.write(HOSTILE, file=sys.stderr)
        inner = progress_bar(title="inner", total=1)
        inner.close()
        bar.close()
    text = terminal.getvalue()
    assert f"\r{SHOWN}:   0%|" in text  # the bar moves the cursor as ever
    assert "\n\x1b[A" in text.replace("\rinner:   0%|          | 0/1 [00:00<?, ?it/s]", "")
    own = text.replace("\x1b[A", "").replace("\r", "").replace("\n", "")
    assert visible(own) == own
    assert sys.stderr is terminal


def test_a_stream_that_commands_print_to(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    stream = VisibleStream(raw)
    print("ä", HOSTILE, file=stream)
    stream.writelines(["\x1b", "b\n"])
    stream.buffer.write(b"c\x1b" + b"\xff\n")
    stream.flush()
    monkeypatch.setattr(sys, "platform", "win32")
    assert not hasattr(stream, "fileno")
    lines = raw.buffer.getvalue().decode("ascii").splitlines()  # type: ignore[attr-defined]
    first = SHOWN.replace(r"\n", "\n").splitlines()
    assert lines == [rf"\u00e4 {first[0]}", first[1], r"\u001bb", r"c\u001b\xff"]


def test_the_streams_come_back_unless_somebody_took_them(monkeypatch: pytest.MonkeyPatch) -> None:
    before, other = sys.stdout, io.StringIO()
    with visible_streams(), visible_streams():
        assert isinstance(sys.stdout, VisibleStream)
        assert sys.stdout._wrapped is before
    assert sys.stdout is before
    monkeypatch.setattr(sys, "stderr", None)
    with visible_streams():
        sys.stdout = other
    assert sys.stdout is other
    assert sys.stderr is None
    sys.stdout = before


LOGGERS = (["'zoo'"], ["'trimesh'"])  # whose records are filtered, and whose are thrown away
# The doors: function -> the modules that may call it.
DOORS = {
    "print": {"zoo.utils.output"},
    "tqdm": {"zoo.utils.progress"},
    "warnings.warn": set[str](),
    "logging.getLogger": None,  # with one of these names
    "sys.stderr.write": set[str](),
    "sys.stdout.write": set[str](),
    "os.write": set[str](),
}


def other_doors(module: str, source: str) -> list[str]:
    """Calls by which a module would print past `say`, `progress_bar`, the logger and click inside a command."""
    found = []
    for node in ast.walk(ast.parse(source)):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if called.startswith("click.") and called.split(".")[1] in ("echo", "secho", "confirm", "prompt"):
            found += [] if module.startswith("zoo.cli") else [f"{module}: {called}"]
        if called in DOORS:
            allowed, given = DOORS[called], [ast.unparse(arg) for arg in getattr(node, "args", [])]
            if given[:1] not in LOGGERS if allowed is None else module not in allowed:
                found.append(f"{module}: {called}")
    return found


def test_nothing_is_printed_by_another_door() -> None:
    files = [
        (folder, file) for folder in ("zoo", "models", "datasets", "prune") for file in (ROOT / folder).rglob("*.py")
    ]
    assert len(files) > 150
    found = []
    for folder, file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        found += other_doors(".".join(parts if folder == "zoo" else ("zoo", *parts)), file.read_text())
    assert found == []
    assert other_doors("zoo.store.x", "print(1)\nclick.echo(2)\nlogging.getLogger(__name__)\n") != []
    assert len(other_doors("zoo.store.x", "print(1)\nclick.echo(2)\nlogging.getLogger(__name__)\ntqdm(x)\n")) == 4
