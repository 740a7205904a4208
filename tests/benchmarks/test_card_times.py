"""benchmarks/card_times.py and onto_cards.py: which record of a card a new one replaces, and on which cards."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

from scripts import BENCHMARKS, script
from store_entries import make, plain
from timed_cards import child, record

from zoo.store import store

card_times = script("card_times")


def test_a_record_takes_the_place_of_the_same_setting_and_of_no_other() -> None:
    old = (record(), record(batch=1), record(device="cuda: Y"), record(mode="compiled"), record(dtype="bfloat16"))
    card = plain("a", forward=old)
    new = record(batch=1, median_ms=5.0, torch="3")
    assert card_times.written(card, new).forward == (old[0], new, *old[2:])
    last = record(batch=7)
    assert card_times.written(card, last).forward == (*old, last)
    assert card_times.written(plain("a"), last).forward == (last,)


def test_a_time_beside_the_parent_is_not_replaced_by_one_alone() -> None:
    beside = record(ratio=1.5)
    card = child("a-1", "a", forward=(beside,))
    assert card_times.written(card, record(median_ms=5.0)) == card
    assert card_times.written(card, record(ratio=1.6)).forward == (record(ratio=1.6),)


def test_only_the_card_of_this_very_checkpoint_is_written(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in "123")
    card = make(one, "a")
    make(two, "a", b"other weights")
    before = (two / "a.json").read_bytes()
    three.mkdir()
    assert card_times.write(card, record(), [one, two, three]) == [one / "a.json"]
    assert store.read_card(one / "a.json") == replace(card, forward=(record(),))
    assert (two / "a.json").read_bytes() == before
    assert not list(three.iterdir())
    assert not list(one.glob(".*"))


def test_what_was_written_meanwhile_is_kept(tmp_path: Path) -> None:
    card = make(tmp_path, "a")
    card_times.write(card, record(batch=2), [tmp_path])
    card_times.write(card, record(batch=3), [tmp_path])  # by a process that read the card before
    assert [r.batch for r in store.read_card(tmp_path / "a.json").forward] == [2, 3]


def test_times_of_another_machine_come_onto_the_cards_of_this_one(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for name in ("one.shapes", "two.shapes"):
        make(there, name)
        make(here, name, b"changed since" if name == "two.shapes" else b"weights")
    make(there, "one.shapes", b"weights")
    cards, _ = card_times.entries([there])
    lines = [
        {"name": card.name, "sha256": card.saved.sha256, "parent": None, "parent_sha256": None, **asdict(each)}
        for card in cards.values() for each in (record(), record(batch=1))
    ]  # fmt: skip
    another = {"parent": "two.shapes", "parent_sha256": lines[-1]["sha256"]}
    lines.append({**lines[0], "batch": 64, **another})
    lines.insert(1, {"name": "one.shapes", "sha256": "0", "batch": 7, "failed": "the compiler says no"})
    out = tmp_path / "times.jsonl"
    out.write_text("\n".join(map(json.dumps, lines)) + '\n{"name": "one.sh', encoding="utf-8")
    command = [sys.executable, str(BENCHMARKS / "onto_cards.py"), str(out), "--cards", str(here)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "one.shapes: 2 records\n"), done.stderr
    assert done.stderr == "two.shapes: that checkpoint is not here, or another parent is\n"
    assert store.read_card(here / "one.shapes.json").forward == (record(), record(batch=1))
    assert store.read_card(here / "two.shapes.json").forward == ()
    out.write_text("no line\n" * 2, encoding="utf-8")
    wrong = subprocess.run(command, capture_output=True, text=True)
    assert wrong.returncode == 1
    assert "line 1, is no forward time" in wrong.stderr
