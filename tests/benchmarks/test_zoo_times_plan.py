"""benchmarks/zoo_times.py: what is timed beside what, and in which order."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import BENCHMARKS, script
from store_entries import make, plain
from timed_cards import PARENT, by_name, child, record

from zoo.store import store

zoo_times = script("zoo_times")
card_times = sys.modules["card_times"]  # as it imports it


def test_every_entry_is_timed_once_and_beside_its_parent() -> None:
    many = [child(f"a-{i}", "a") for i in range(6)]
    cards = by_name(
        plain("a"), *many, child("b", "a-2"), child("c", "absent"), child("d", "a", sample_shape=(6,)), plain("e")
    )
    groups = list(zoo_times.groups(cards))
    kept = sorted(name for _, each in groups for name in each)
    assert kept == sorted(cards)  # each exactly once
    for members, names in groups:
        assert len(members) <= 5
        assert names <= {card.name for card in members}
        assert len({card.sample_shape for card in members}) == 1
        for card in members:
            if card.name in names and card.parent in cards and card.name != "d":
                assert members[0].name == card.parent
    alone = [members[0].name for members, _ in groups if len(members) == 1]
    assert alone == ["c", "d", "e"]


def test_a_parent_from_elsewhere_is_timed_beside_its_children_and_not_for_itself() -> None:
    cards, parents = by_name(child("a-1", "a"), child("a-2", "a")), by_name(plain("a"))
    assert list(zoo_times.groups(cards, parents)) == [
        ((parents["a"], cards["a-1"], cards["a-2"]), frozenset({"a-1", "a-2"}))
    ]
    assert [names for _, names in zoo_times.groups(cards)] == [{"a-1"}, {"a-2"}]


def rows_of_the_readme() -> set[str]:
    text = (BENCHMARKS.parent / "README.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| (?:&emsp;)*`([^`]+)` \|", text, re.MULTILINE))


@pytest.mark.skipif(sys.platform == "win32", reason="it is a shell script")
@pytest.mark.parametrize("minutes", ["9", "1000"])
def test_the_plan_holds_every_row_of_the_readme(tmp_path: Path, minutes: str) -> None:
    """In the default time eagerly and as a graph, of both batches and types; in the time for all of it compiled too."""
    done = subprocess.run(
        ["bash", str(BENCHMARKS / "gpu.sh"), "--dry-run", "--minutes", minutes], capture_output=True, text=True,
        env={**os.environ, "PYTHON": sys.executable, "ZOO_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = re.findall(r"^ *\d+ s  batch (\d+), (\w+), (\w+): (.*)$", done.stdout, re.MULTILINE)
    planned: dict[tuple[str, ...], set[str]] = {}
    for *setting, names in runs:
        planned.setdefault(tuple(setting), set()).update(names.split(", "))
    rows = rows_of_the_readme()
    assert len(rows) > 10
    modes = zoo_times.MODES if minutes == "1000" else ("eager", "cuda_graph")
    for setting in ((b, d, m) for b in ("1", "32") for d in zoo_times.DTYPES for m in modes):
        assert planned[setting] == rows
    assert ("    left  batch " in done.stdout) == (minutes == "9")
    assert not list(tmp_path.iterdir())


def test_what_is_timed_alone_and_what_is_not_at_all_is_said(empty_home: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    make(one, "net-a.shapes", parent="net.shapes", **PARENT)
    make(one, "net-b.shapes", parent="net.shapes", **PARENT, sample_shape=(6,))
    make(one, "net-c.shapes", parent="gone.shapes", **PARENT)
    make(one, "net-d.shapes", parent="net.shapes", **PARENT, recipe={"command": "x", "parent_sha256": "0" * 64})
    make(two, "net-a.shapes", b"another one")
    shutil.copy(one / "net-b.shapes.json", two)
    make(store.cache_dir(), "net.shapes")
    cards, said = card_times.entries([one, two, tmp_path / "three"])
    assert (list(cards), said) == (
        ["net-a.shapes", "net-b.shapes", "net-c.shapes", "net-d.shapes"],
        [f"{two / 'net-a.shapes.json'} is not timed: {one} has another net-a.shapes"],
    )
    parents, said = zoo_times.parents_of(cards, [])
    assert list(parents) == ["net.shapes"]
    assert said == [
        "net-b.shapes is timed alone: its parent net.shapes takes other samples",
        "net-c.shapes is timed alone: its parent gone.shapes is neither here nor on a mirror",
        "net-d.shapes is timed alone: its parent net.shapes was made anew since",
    ]


def test_the_cheap_comes_first_and_the_compiled_last() -> None:
    cards = by_name(plain("a"), plain("b"))
    every = {"device": "cuda: X", "modes": list(zoo_times.MODES), "dtypes": zoo_times.DTYPES, "batches": (32, 1)}
    jobs = zoo_times.jobs(cards, **every)
    assert len(jobs) == 2 * 3 * 2 * 2
    assert [(j.mode, j.dtype) for j in jobs[:4]] == [("eager", "float32")] * 4
    assert {j.mode for j in jobs[:16]} == {"eager", "cuda_graph"}
    assert {j.cards[0].name for j in jobs[:2]} == {"a", "b"}
    assert {j.mode for j in jobs[-8:]} == {"compiled"}


def test_what_no_card_states_comes_before_what_is_measured_again() -> None:
    cards = by_name(plain("a", forward=(record(),)), plain("b", forward=(record(device="cuda: Y"),)))
    jobs = zoo_times.jobs(cards, device="cuda: X", modes=("eager", "compiled"), dtypes=("float32",), batches=(32,))
    assert [(j.cards[0].name, j.mode) for j in jobs] == [
        ("b", "eager"), ("a", "compiled"), ("b", "compiled"), ("a", "eager"),
    ]  # fmt: skip


def test_what_was_longest_ago_comes_first_of_what_is_measured_again(tmp_path: Path) -> None:
    cards = {name: make(tmp_path, name, name.encode(), forward=(record(),)) for name in "abcd"}
    cards |= {name: make(tmp_path, name, name.encode()) for name in "ef"}
    out = tmp_path / "times.jsonl"
    tried = [{"sha256": cards[name].saved.sha256, **vars(record())} for name in ("c", "e", "a", "b", "c")]
    lines = [json.dumps({**line, "failed": "why"}) for line in tried]
    out.write_text("\n".join([*lines, lines[2][:-7], "[]"]))  # the one before the last was cut off by a kill
    jobs = zoo_times.jobs(
        cards, device="cuda: X", modes=("eager",), dtypes=("float32",), batches=(32,), tried=zoo_times.lines_of(out)
    )
    assert [job.cards[0].name for job in jobs] == ["f", "e", "d", "a", "b", "c"]
    assert zoo_times.lines_of(tmp_path / "none.jsonl") == zoo_times.lines_of(None) == {}
