"""Cards, lists of mirrors and commands on cards, damaged: read and shown as they are, or refused with one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fuzzing import CASES, fuzz
from store_entries import plain

from zoo.cards import Card, File
from zoo.display import Query, card_page, card_table
from zoo.store import mirrors
from zoo.workflows import stated_settings
from zoo.workflows.command_words import same_command

SHIPPED = sorted((Path(__file__).parents[2] / "zoo" / "checkpoints").glob("*.json"))
WORDS = [
    b'"', b"{", b"}", b"[", b"]", b"null", b"true", b"NaN", b"1e999", b"-1", b"0", b'""', b"[[[[[[", b'{"a":',
    b"\\u0000", b"\\ud800", b"\xff", b'"schema"', b'"parent"', b'"widths"', b'"file"', b'"forward"', b",",
]  # fmt: skip


@pytest.mark.parametrize("cases", CASES)
def test_no_card_harms(cases: int) -> None:
    def read(data: bytes) -> None:
        card = Card.from_json(data)
        assert Card.from_json(card.to_json()) == card
        page = card_page(card, {card.name: card}, stated=stated_settings(str(card.recipe["command"])))
        table = card_table({card.name: Query().view(card)})
        assert "\x1b" not in page + table

    samples = [path.read_bytes() for path in SHIPPED[:4]]
    file = File(name="net.shapes-00000000.safetensors", size=9, sha256="0" * 64)
    fuzz(read, [*samples, plain("net.shapes", file=file).to_json().encode()], cases, words=WORDS)


@pytest.mark.parametrize("cases", CASES)
def test_no_index_harms(cases: int, ram: Path) -> None:
    def read(data: bytes) -> None:
        (ram / "index.json").write_bytes(data)
        for name in mirrors.fetch_index(str(ram)):
            assert Path(name).name == name

    sample = {"schema": 1, "cards": [f"net{number}-0.5x.shapes.json" for number in range(9)]}
    samples = [json.dumps(sample, indent=indent).encode() for indent in (None, 2)]
    fuzz(read, samples, cases, words=[*WORDS, b"../", b"/"])


@pytest.mark.parametrize("cases", CASES)
def test_no_command_on_a_card_harms(cases: int) -> None:
    def read(data: bytes) -> None:
        command = data.decode(errors="replace")
        assert all(isinstance(name, str) for name in stated_settings(command))
        assert same_command(command, command)

    samples = [str(Card.from_json(path.read_bytes()).recipe["command"]).encode() for path in SHIPPED[:9]]
    words = [b"'", b'"', b"\\", b"-O", b"--weighting", b"=", b"--", b"{}", b"{0}", b"%s", b"#"]
    fuzz(read, samples, cases, words=words)
