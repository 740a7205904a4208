"""benchmarks/gpu_day/merge.py: which record of a card a new one replaces, and on which cards."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from scripts import script
from store_entries import make, plain, write_index
from timed_cards import PARENT, child, record

import zoo
from zoo import ZooError, store
from zoo.cards import Card
from zoo.store import mirrors, publishing

merge = script("gpu_day.merge")
card_times = sys.modules["card_times"]  # as it imports it


def lines_of(cards: list[Card], *records: Any) -> list[dict[str, Any]]:
    """What gpu_day.sh forward writes of these cards."""
    alone = {"parent": None, "parent_sha256": None}
    return [
        {"text": "", "name": card.name, "sha256": card.saved.sha256, **alone, **asdict(each)}
        for card in cards
        for each in records
    ]


def run(out: Path, lines: list[dict[str, Any]], *folders: Path) -> Result:
    out.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"name": "one.sh', encoding="utf-8")
    options = [f"--cards={folder}" for folder in folders]
    return CliRunner().invoke(merge.main, [str(out), *options], catch_exceptions=False)


def test_a_record_takes_the_place_of_the_same_setting_and_of_no_other() -> None:
    old = (record(), record(batch=1), record(device="cuda: Y"), record(mode="compiled"), record(dtype="bfloat16"))
    card = plain("a", forward=old)
    new = record(batch=1, median_ms=5.0, torch="3")
    assert merge.merged(card, new).forward == (old[0], new, *old[2:])
    last = record(batch=7)
    assert merge.merged(card, last).forward == (*old, last)
    assert merge.merged(plain("a"), last).forward == (last,)


def test_a_time_beside_the_parent_is_not_replaced_by_one_alone() -> None:
    beside = record(ratio=1.5)
    card = child("a-1", "a", forward=(beside,))
    assert merge.merged(card, record(median_ms=5.0)) == card
    assert merge.merged(card, record(ratio=1.6)).forward == (record(ratio=1.6),)


def test_only_the_card_of_this_very_checkpoint_is_written(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name for name in "123")
    card = make(one, "a")
    make(two, "a", b"other weights")
    before = (two / "a.json").read_bytes()
    three.mkdir()
    assert merge.write(card, record(), [one, two, three]) == [one / "a.json"]
    assert store.read_card(one / "a.json") == replace(card, forward=(record(),))
    assert (two / "a.json").read_bytes() == before
    assert not list(three.iterdir())
    assert not list(one.glob(".*"))


def test_what_was_written_meanwhile_is_kept(tmp_path: Path) -> None:
    card = make(tmp_path, "a")
    merge.write(card, record(batch=2), [tmp_path])
    merge.write(card, record(batch=3), [tmp_path])  # by a process that read the card before
    assert [r.batch for r in store.read_card(tmp_path / "a.json").forward] == [2, 3]


def test_times_of_another_machine_come_onto_the_cards_of_this_one(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for name in ("one.shapes", "two.shapes"):
        make(here, name, b"changed since" if name == "two.shapes" else b"weights")
    cards = [make(there, "one.shapes", b"weights"), make(there, "two.shapes")]
    lines = lines_of(cards, record(), record(batch=1))
    lines.append({**lines[0], "batch": 64, "parent": "two.shapes", "parent_sha256": lines[-1]["sha256"]})
    lines.insert(1, {"name": "one.shapes", "sha256": "0", "batch": 7, "failed": "the compiler says no"})
    done = run(tmp_path / "forward.jsonl", lines, here)
    assert done.exit_code == 0
    assert done.stdout == "one.shapes: 2 records\n"
    assert done.stderr == "two.shapes: that checkpoint is not here, or another parent is\n"
    assert store.read_card(here / "one.shapes.json").forward == (record(), record(batch=1))
    assert store.read_card(here / "two.shapes.json").forward == ()
    (tmp_path / "wrong.jsonl").write_text("no line\n" * 2)
    wrong = CliRunner().invoke(merge.main, [str(tmp_path / "wrong.jsonl"), f"--cards={here}"])
    assert wrong.exit_code == 1
    assert "line 1, is no forward time" in wrong.stderr


def test_a_rehearsal_stands_on_no_card(tmp_path: Path) -> None:
    card = make(tmp_path / "cards", "one.shapes")
    lines = [{**line, "scale": 0.01} for line in lines_of([card], record())]
    done = run(tmp_path / "forward.jsonl", lines, tmp_path / "cards")
    assert done.exit_code == 1
    assert "is of a rehearsal, --scale 0.01: its figures stand on no card" in done.stderr
    assert store.read_card(tmp_path / "cards" / "one.shapes.json") == card


def test_a_card_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = make(tmp_path / "cards", "one.shapes")

    def full(path: Path) -> None:
        raise ZooError(f"cannot write {path}: No space left on device; nothing was written")

    monkeypatch.setattr(merge, "new_file", full)
    done = run(tmp_path / "forward.jsonl", lines_of([card], record()), tmp_path / "cards")
    assert done.exit_code == 1
    assert "No space left on device" in done.stderr
    assert store.read_card(tmp_path / "cards" / "one.shapes.json") == card


def test_a_mirror_in_the_repository_stays_one(empty_home: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Times reach its cards; what is served and published from it is whole."""
    folder = tmp_path / "repository" / "mirror"
    on_cpu = record(device="cpu", median_ms=None, ratio=1.5)
    make(folder, "net.shapes", b"dense")
    make(folder, "net-small.shapes", b"small", parent="net.shapes", **PARENT, forward=(on_cpu,))
    write_index(folder)
    monkeypatch.setattr(card_times, "ROOT", folder.parent)
    before, index = card_times.entries([folder])[0], (folder / "index.json").read_bytes()
    cards = [*before.values(), make(store.user_dir(), "own.shapes")]
    new = [record(batch=batch, median_ms=4.0) for batch in (1, 32)]
    assert run(tmp_path / "forward.jsonl", lines_of(cards, *new)).exit_code == 0
    assert store.read_card(store.user_dir() / "own.shapes.json").forward == tuple(new)
    assert (folder / "index.json").read_bytes() == index
    for name, card in before.items():
        assert zoo.download(name, mirror=folder).stat().st_size == card.saved.size
        assert replace(zoo.info(name), forward=card.forward) == card
        assert zoo.info(name).forward == (*card.forward, *new)
        assert (folder / f"{name}.json").read_text(encoding="utf-8") == zoo.info(name).to_json()
    assert publishing.publish(folder, ["own.shapes"]).new == ["own.shapes"]
    assert mirrors.fetch_index(str(folder)) == sorted([*before, "own.shapes"])
