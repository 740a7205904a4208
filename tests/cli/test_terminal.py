"""Files, servers and cards that try to speak to the terminal: what a command prints holds no character that a terminal
obeys or hides, but its own newlines."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from http_mirror import serving
from safetensors.torch import save_file
from store_entries import make, write_index

from zoo import store
from zoo.cards import Accuracy, Forward
from zoo.cards.licences import Licences
from zoo.cli import main
from zoo.errors import visible

CLEAR = "\x1b[2J\x1b]0;owned\x07"
HOSTILE = f"a{CLEAR}\r\nError: all is well\x7f\x9b31m\u202e\u2066\u200b\u2028\ufeff"
FILE = HOSTILE.replace("/", "")  # as the name of a file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="names of files as POSIX allows them")


def printed(*words: object, code: int) -> str:
    """What a command prints on both streams, its warnings among it; checked."""
    handler = logging.StreamHandler(said := io.StringIO())  # pytest's own keeps warnings from the stream
    logging.getLogger("zoo").addHandler(handler)
    try:
        result = CliRunner().invoke(main, [str(word) for word in words])
    finally:
        logging.getLogger("zoo").removeHandler(handler)
    text = said.getvalue() + result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == code, text
    assert visible(text, keep="\n") == text
    assert not any(line.startswith("Error: all is well") for line in text.splitlines())
    return text


@pytest.fixture(autouse=True)
def home(empty_home: Path) -> Path:
    return empty_home


def entry(said: str) -> Path:
    """An entry of one's own whose card says it wherever a card may say anything."""
    folder = store.user_dir()
    make(folder, "parent.shapes")
    timing = Forward(device="cpu", torch=said, batch=1, dtype=said, mode=said, ratio=1.5)
    make(
        folder, "net.shapes", parent="parent.shapes", forward=(timing,), classes=(said, "b", "c"),
        accuracy=Accuracy.of(said, 3, 4), recipe={"command": said, "data_dir": said, said: said},
        options={said: said}, widths={said: 7},
        licences=Licences(code=said, weights=said, data=said, parent="Apache-2.0"),
    )  # fmt: skip
    return folder


@pytest.fixture
def hostile() -> Path:
    """Such an entry whose card is refused."""
    return entry(HOSTILE)


@pytest.mark.parametrize(
    "words",
    [
        ["list", "--columns", "name,split,licence,ms,speed-up"],
        ["list", "--licence", "x"], ["info", "net"], ["download", "net"], ["remove", "net"],
    ],
)  # fmt: skip
def test_a_card_that_may_be_used(words: list[str]) -> None:
    entry("owned \u3164\u034f")  # letters by category, and nothing to see
    assert r"owned \u3164\u034f" in printed(*words, code=words[0] == "remove")  # which asks, and nobody answers


@pytest.mark.parametrize(
    "words", [["list"], ["info", "net"], ["download", "net"], ["cache", "verify"], ["eval", "net"], ["remove", "net"]]
)
def test_a_card_that_is_refused(hostile: Path, words: list[str]) -> None:
    assert "owned" in printed(*words, code={"list": 0, "cache": 1}.get(words[0], 2))


@pytest.mark.parametrize("words", [["info", "net", "--json"], ["list", "--json"]])
def test_json_is_still_json(words: list[str]) -> None:
    folder = entry("owned \u3164")
    found = json.loads(printed(*words, code=0))
    card = found if isinstance(found, dict) else next(card for card in found if card["name"] == "net.shapes")
    assert card == json.loads((folder / "net.shapes.json").read_text())


def test_a_mirror(mirror: Path, hostile: Path, tmp_path: Path) -> None:
    card = json.loads((hostile / "net.shapes.json").read_text())
    (mirror / "index.json").write_text(json.dumps({"schema": 1, "cards": [f"{HOSTILE}.json"]}))
    assert "owned" in printed("list", "--mirror", mirror, code=0)
    (mirror / "index.json").write_text(json.dumps({"schema": HOSTILE, "cards": []}))
    printed("download", "other", "--mirror", mirror, code=2)
    (mirror / "net-pruned-0.5x.shapes.json").write_text(json.dumps({**card, HOSTILE: 1}))
    write_index(mirror)
    assert "owned" in printed("download", "net-pruned-0.5x", "--mirror", mirror, code=2)
    with serving(mirror) as http:
        http.trick = "500"
        http.server.RequestHandlerClass.responses = {500: (CLEAR, CLEAR)}  # type: ignore[attr-defined]
        printed("download", "net.modelnet10", "--mirror", f"{http.url}/{CLEAR}", code=2)
        printed("download", "net.modelnet10", "--mirror", http.url, code=2)
    printed("download", "net.modelnet10", "--mirror", tmp_path / FILE, code=2)


def test_a_bundle(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / f"{FILE}.zip", "w") as bundle:
        bundle.writestr(HOSTILE, "x")
        bundle.writestr("index.json", json.dumps({"schema": 1, "cards": [HOSTILE]}))
    assert "owned" in printed("bundle", "--install", tmp_path / f"{FILE}.zip", code=2)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"{FILE}{suffix}"
    state = {HOSTILE: torch.zeros(2, 2), f"{HOSTILE}.running_mean": torch.zeros(2)}
    if suffix == ".pth":
        torch.save({HOSTILE: state, f"{HOSTILE}2": state}, path)
    else:
        save_file(state, path, {HOSTILE: HOSTILE, "zoo": json.dumps({"arch": HOSTILE})})
    assert "owned" in printed("convert", path, "--arch", "mlp", "-o", tmp_path / "o.safetensors", code=2)
    assert "owned" in printed("convert", path, "--arch", "mlp", "--key", "k", "-o", tmp_path / "o.safetensors", code=2)
    assert "owned" in printed("info", path, code=2)


def test_a_recipe(tmp_path: Path) -> None:
    inline = visible(HOSTILE).encode().decode("unicode_escape").replace("\r\n", " ").replace("\u2028", "")
    file = tmp_path / "r.ini"
    words = ["train", "dgcnn", "--recipe", file, "--dataset", "shapes", "--device", "cpu"]
    for text in (f"[{CLEAR}]\nlr = 1\n", f"[train]\n{CLEAR} = 1\n", f"[train]\nlr = {CLEAR}\n", f"{inline}\n"):
        file.write_text(text)
        assert "owned" in printed(*words, code=2)
    printed("train", "dgcnn", "--recipe", tmp_path / FILE, "--dataset", "shapes", code=2)


def test_names_of_files(hostile: Path, tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.png").write_bytes(b"no picture")
    (hostile / f"{FILE}.json").write_text("{")
    assert "owned" in printed("list", code=0)  # a warning about the broken card
    store.cache_dir().mkdir(parents=True)
    (store.cache_dir() / "damaged").mkdir()
    (store.cache_dir() / "damaged" / FILE).write_bytes(b"x")
    assert "owned" in printed("cache", "list", code=0)
    assert "owned" in printed("cache", "clean", code=0)
    assert "owned" in printed("predict", tmp_path / FILE, tmp_path / f"{FILE}.png", code=2)
    assert "owned" in printed("eval", "parent", "--dataset", "folder", "--data-dir", tmp_path / FILE, code=2)
    assert "owned" in printed("bundle", "parent", "-o", tmp_path / f"{FILE}.zip", code=0)
    assert "owned" in printed("publish", tmp_path / FILE, "parent.shapes", code=0)


@pytest.mark.parametrize("words", [[HOSTILE], ["list", f"--{HOSTILE}"], ["info", HOSTILE], ["eval", HOSTILE]])
def test_words_that_were_pasted(hostile: Path, words: list[str]) -> None:
    printed(*words, code=2)


def test_a_name_that_is_no_text_in_any_encoding(tmp_path: Path) -> None:
    path = os.fsdecode(bytes(tmp_path) + b"/\xff\x1b.zip")
    make(store.user_dir(), "net.shapes")
    assert r"\udcff\u001b.zip" in printed("bundle", "net", "-o", path, code=0)


SCRIPT = f"""
import sys, warnings
from zoo import store
from zoo.cli import main
def cards(mirror):
    print({CLEAR!r})
    warnings.warn({CLEAR!r})
    raise RuntimeError({CLEAR!r})
store.cards = cards
main(["list"], prog_name="zoo")
"""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_tracebacks_and_warnings_of_others(encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stdout == f"{visible(CLEAR)}\n"
    assert f"UserWarning: {visible(CLEAR)}\n" in done.stderr
    assert done.stderr.endswith(f"RuntimeError: {visible(CLEAR)}\n")
    assert visible(done.stderr, keep="\n") == done.stderr
