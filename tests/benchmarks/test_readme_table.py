"""benchmarks/readme_table.py: the README's tables of entries are made from their cards."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from scripts import BENCHMARKS, script
from store_entries import make, plain, write_index

from zoo.cards import Accuracy, Card, Forward
from zoo.cards.licences import Licences

readme_table = script("readme_table")
ROOT = BENCHMARKS.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BEGIN, END = (line.format("entries").strip() for line in (readme_table.BEGIN, readme_table.END))
CHILD = Licences(code="Apache-2.0", weights="Apache-2.0", data="none", parent="Apache-2.0")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the tables are made of: the README, the cards, and an empty file for each checkpoint."""
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "results.md", tmp_path / "docs")
    shutil.copytree(BENCHMARKS / "seeds", tmp_path / "benchmarks" / "seeds")
    for folder in ("zoo/checkpoints", "mirror"):
        (tmp_path / folder).mkdir(parents=True)
        for path in (ROOT / folder).glob("*.json"):
            shutil.copy(path, tmp_path / folder)
        for path in (ROOT / folder).glob("*.safetensors"):
            (tmp_path / folder / path.name).touch()
    monkeypatch.setattr(readme_table, "ROOT", tmp_path)
    return tmp_path


def table(tree: Path, *options: str) -> Result:
    return CliRunner().invoke(readme_table.main, options)


def rows(tree: Path) -> list[list[str]]:
    """The table's lines in the README as cells; a data set's line is one cell."""
    part = (tree / "README.md").read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    lines = [line for line in part.splitlines() if line and not line.startswith("| ---")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def only(tree: Path, *made: Card) -> None:
    """Let the tree ship these cards alone."""
    for folder in ("zoo/checkpoints", "mirror", "benchmarks/seeds"):
        for path in (tree / folder).iterdir():
            path.unlink()
    for card in made:
        make(tree / "zoo/checkpoints", card.name, **{k: v for k, v in vars(card).items() if k not in ("name", "file")})


def test_the_table_of_entries_is_what_the_cards_say(tree: Path) -> None:
    done = table(tree, "--check")
    assert done.exit_code == 0, done.output
    files = [tree / "README.md", tree / "docs" / "results.md"]
    first = [file.read_bytes() for file in files]
    assert table(tree).exit_code == 0
    assert [file.read_bytes() for file in files] == first


def test_every_seed_of_a_network_counts_in_the_table_of_the_results(tree: Path) -> None:
    text = (tree / "docs" / "results.md").read_text(encoding="utf-8")
    lines = text.partition("<!-- seeds: ")[2].partition("<!-- end of seeds -->")[0].splitlines()
    (line,) = (line for line in lines if line.startswith("| DGCNN (0.5x) |"))
    right = [json.loads(path.read_text())["accuracy"]["correct"] for path in (
        ROOT / "zoo/checkpoints/dgcnn-0.5x.modelnet10.json",
        *(BENCHMARKS / f"seeds/dgcnn-0.5x-seed{seed}.modelnet10.json" for seed in (1, 2)),
    )]  # fmt: skip
    assert f"| 3 | {sum(right)}/2724 | {100 * sum(right) / 2724:.2f} ({100 * min(right) / 908:.2f} to " in line
    assert sum(line.startswith("* ") for line in lines) == 4
    (tree / "benchmarks/seeds/dgcnn-0.5x-seed1.modelnet10.json").unlink()
    assert "docs/results.md is not what the cards say" in table(tree, "--check").output


def test_every_shipped_entry_stands_there_with_its_numbers(tree: Path) -> None:
    lines = {line[0].removeprefix("&emsp;").strip("`"): line for line in rows(tree) if len(line) > 1}
    for path in (ROOT / "zoo/checkpoints").glob("*.json"):
        card = json.loads(path.read_text(encoding="utf-8"))
        line = lines[card["name"]]
        if right := card.get("accuracy"):
            assert line[2].startswith(
                f"{right['correct']} / {right['total']}, {100 * right['correct'] / right['total']:.1f} %"
            )
        assert line[-1] == "shipped"


def test_a_card_that_changes_makes_the_readme_stale(tree: Path) -> None:
    path = tree / "zoo/checkpoints/dgcnn.shapes.json"
    card = json.loads(path.read_text(encoding="utf-8"))
    right = Accuracy.of("test", card["accuracy"]["correct"] - 1, card["accuracy"]["total"])
    path.write_text(json.dumps({**card, "accuracy": vars(right)}), encoding="utf-8")
    before = (tree / "README.md").read_text(encoding="utf-8")
    done = table(tree, "--check")
    assert done.exit_code == 1
    assert "type python benchmarks/readme_table.py" in done.output
    assert (tree / "README.md").read_text(encoding="utf-8") == before
    assert table(tree).exit_code == 0
    after = (tree / "README.md").read_text(encoding="utf-8")
    changed = [b for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    assert len(changed) == 1
    assert f"| {right.correct} / {right.total}, " in changed[0]
    assert table(tree, "--check").exit_code == 0


def test_an_entry_on_a_mirror_alone_stands_there_too(tree: Path) -> None:
    make(tree / "mirror", "net.zebra", dataset="zebra")
    shipped = next((tree / "zoo/checkpoints").glob("*.json"))
    shutil.copy(shipped, tree / "mirror")  # is on the mirror as well
    write_index(tree / "mirror")
    assert table(tree, "--check").exit_code == 1
    before = len(rows(tree))
    assert table(tree).exit_code == 0
    assert ["`net.zebra`", "5", "3 / 4, 75.0 % (30.1-95.4)", "89", "", "", "", "mirror"] in rows(tree)
    assert [line[-1] for line in rows(tree) if shipped.stem in line[0]] == ["shipped"]
    assert len(rows(tree)) == before + 3  # alone on its data set it has a title and a head of its own
    next((tree / "mirror").glob("net.zebra-*.safetensors")).unlink()
    assert table(tree).exit_code == 0
    assert [line[-1] for line in rows(tree) if line[0] == "`net.zebra`"] == ["its command"]


def test_families_stand_together_and_data_sets_in_their_order(tree: Path) -> None:
    def child(stem: str, parent: str, dataset: str) -> Card:
        return plain(f"{stem}.{dataset}", dataset=dataset, parent=f"{parent}.{dataset}", licences=CHILD)

    both, widths = ("modelnet10", "shapes"), ("0.25x", "0.5x", "0.75x")
    only(
        tree,
        *(child(f"net-pruned-{width}", "net", dataset) for dataset in both for width in widths),
        *(plain(f"net-{width}.{dataset}", dataset=dataset) for dataset in both for width in widths),
        *(plain(f"{stem}.{dataset}", dataset=dataset) for dataset in both for stem in ("net", "atom")),
        child("net-pruned-0.5x-finetuned", "net-pruned-0.5x", "modelnet10"),
        child("orphan", "elsewhere", "modelnet10"),
        plain("net.zebra", dataset="zebra"),
    )  # fmt: skip
    assert table(tree).exit_code == 0
    names = [line[0] for line in rows(tree) if line[0] != "entry"]
    family = ["atom", "net", *(f"+net-pruned-{width}" for width in widths), *(f"net-{width}" for width in widths)]
    ten = [*family[:4], "++net-pruned-0.5x-finetuned", *family[4:], "orphan"]
    expected = ["**modelnet10**", *(f"{name}.modelnet10" for name in ten), "**shapes**"]
    expected += [*(f"{name}.shapes" for name in family), "**zebra**", "net.zebra"]
    assert [name.replace("&emsp;", "+").replace("`", "") for name in names] == expected
    assert len(names) == 22


def test_what_stands_in_a_row(tree: Path) -> None:
    fields = {"torch": "2", "dtype": "float32", "mode": "eager"}
    ratio = {"ratio": 1.5, "ratio_low": 1.4, "ratio_high": 1.6}
    parent = plain("net.shapes", accuracy=None, parameters=1_814_000, macs=1_196_299_264, forward=())
    forward = (
        Forward(**fields, device="cuda: NVIDIA H200", batch=1, median_ms=0.2, **ratio),
        Forward(**{**fields, "dtype": "bfloat16"}, device="cuda: NVIDIA H200", batch=32, median_ms=0.3),
        Forward(**fields, device="cuda: NVIDIA H200", batch=32, median_ms=0.4567),
        Forward(**fields, device="cpu", batch=8, **{**ratio, "ratio": 1.45}),
    )
    fast = {**fields, "dtype": "bfloat16", "mode": "cuda_graph"}
    alone = (Forward(**fast, device="cuda: A|B", batch=32, median_ms=1.0),)
    more = {"parent": "net.shapes", "licences": CHILD}
    only(
        tree,
        parent,
        plain("net-pruned-0.5x.shapes", accuracy=Accuracy.of("validation", 90, 100), forward=forward, **more),
        plain("net-pruned-0.9x.shapes", accuracy=None, forward=alone, **more),
    )
    assert table(tree).exit_code == 0
    assert rows(tree)[2:] == [
        ["`net.shapes`", "5", "", "1.814M", "1.196G", "", "", "shipped"],
        ["&emsp;`net-pruned-0.5x.shapes`", "5", "90 / 100, 90.0 % (82.6-94.5), validation split", "89", "",
         "1.45x (1.40 to 1.60), batch 8", "0.457 ms, NVIDIA H200, batch 32", "shipped"],
        ["&emsp;`net-pruned-0.9x.shapes`", "5", "", "89", "", "",
         "1.000 ms, A/B, batch 32, bfloat16, cuda graph", "shipped"],
    ]  # fmt: skip


def test_what_the_table_cannot_be_made_of(tree: Path) -> None:
    shipped = next((tree / "zoo/checkpoints").glob("*.json"))
    other = tree / "mirror" / shipped.name
    other.write_text(shipped.read_text(encoding="utf-8").replace("Apache-2.0", "MIT"), encoding="utf-8")
    done = table(tree)
    assert done.exit_code != 0
    assert f"is not the card that is shipped as {shipped.stem}" in done.output
    other.write_text("{}", encoding="utf-8")
    assert "is not a card that can be used" in table(tree).output
    other.unlink()
    readme = tree / "README.md"
    for text in (TEXT.replace(END, ""), TEXT.replace(BEGIN, ""), f"{TEXT}\n{BEGIN}\n", f"{END}\n{TEXT}"):
        readme.write_text(text, encoding="utf-8")
        done = table(tree)
        assert done.exit_code != 0
        assert "once each and in this order" in done.output
        assert readme.read_text(encoding="utf-8") == text
