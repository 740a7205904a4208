"""docs/results.md says of the published entries what their cards say."""

from pathlib import Path

import pytest
from scripts import BENCHMARKS, script

from zoo.cards import Card
from zoo.display import format as report
from zoo.store import store

table3 = script("table3")
ROOT = BENCHMARKS.parent
TEXT = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
FLAT = " ".join(TEXT.split())


def cards(*folders: Path) -> list[Card]:
    places = (place for folder in folders for place in sorted(folder.glob("[!.]*.json")) if place.name != "index.json")
    return [card for card in map(store.read_card, places) if card.dataset != "shapes"]


PUBLISHED = cards(store.package_dir(), ROOT / "mirror")
SEEDS = cards(ROOT / "benchmarks" / "seeds")
THRICE = [row for row in table3.rows([*PUBLISHED, *SEEDS], "modelnet10") if len(row.cards) == 3]


@pytest.mark.parametrize("card", [c for c in PUBLISHED if "pointnet" not in c.arch], ids=lambda card: card.name)
def test_every_entry_has_its_line(card: Card) -> None:
    accuracy = card.accuracy
    assert accuracy is not None
    wanted = {
        f"| {accuracy.correct} ",
        f"| {report.percent(accuracy)} ({report.interval(accuracy).replace('-', ' to ')}) |",
        f"| {report.quantity(card.parameters)} |",
    }
    assert any(all(text in line for text in wanted) for line in TEXT.splitlines()), f"no line has {wanted}"
    for record in card.forward:
        if record.device == "cpu":
            assert report.speedup(record) in FLAT


@pytest.mark.parametrize("row", THRICE, ids=lambda row: row.title)
def test_every_network_has_the_answers_of_its_seeds(row: "table3.Row") -> None:
    right = [card.accuracy.correct for card in row.cards]
    low, high = row.interval
    mean = f"{100 * sum(row.shares) / 3:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    assert f"{right[0]}, {right[1]}, {right[2]} | {mean} |" in FLAT or (
        f"{right[0]}, {right[1]} and {right[2]} of 908 (seeds 0, 1, 2), {mean}" in FLAT
    )
    if row.kind:
        macs = sorted({f"{card.macs / 1e6:.1f}M" for card in row.cards})
        assert f" | {' to '.join(dict.fromkeys((macs[0], macs[-1])))} | " in FLAT
