"""The tables of README.md and docs/results.md, made from the cards of the entries: what no card states is left empty.

    python benchmarks/readme_table.py            renews what stands between the comments that name this script
    python benchmarks/readme_table.py --check    ends with exit code 1 where that would change a file

README.md lists the entries that are shipped (zoo/checkpoints) and those of mirror/; docs/results.md has the table of
table3.py over all seeds (benchmarks/seeds too). Run it after an entry was made, measured or published; a test fails
until then.
"""

from __future__ import annotations

from pathlib import Path

import click
from answers import answers_of
from card_times import cards_in, entries
from table3 import markdown, rows

from zoo.cards import Accuracy, Card, Forward, parse_name
from zoo.datasets import dataset_title, datasets_by_difficulty
from zoo.display import in_families, interval, percent, quantity, speedup
from zoo.errors import ZooError

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- {}: python benchmarks/readme_table.py -->\n", "<!-- end of {} -->\n"
_HEAD = ("entry", "input", "accuracy", "parameters", "MACs", "speed-up, CPU", "forward, GPU", "where")
_RULE = ("---", "---", "---", "---:", "---:", "---", "---", "---")


def cards_of(root: Path) -> list[tuple[Card, str]]:
    """Every card of a checkout, with the word for where its checkpoint is: shipped, mirror, or its command alone.

    Raises:
        ZooError: a card is broken, or the one in mirror/ is another one than the shipped one of that name.
    """
    cards: dict[str, tuple[Card, str]] = {}
    for folder, place in ((root / "zoo" / "checkpoints", "shipped"), (root / "mirror", "mirror")):
        for path, card in cards_in(folder):
            where = place if (folder / card.saved.name).is_file() else "its command"
            if cards.setdefault(card.name, (card, where))[0] != card:
                raise ZooError(f"{path} is not the card that is shipped as {card.name}: remove it, or rename the entry")
    return list(cards.values())


def entry_tables(root: Path) -> str:
    """One Markdown table per data set of the entries of a checkout, the most demanding data set first; in each table
    children stand right after their parents."""
    groups: dict[str, dict[str, tuple[Card, str]]] = {}
    for card, where in cards_of(root):
        groups.setdefault(card.dataset, {})[card.name] = (card, where)
    known = datasets_by_difficulty()
    order = [*(dataset for dataset in known if dataset in groups), *sorted(groups.keys() - set(known))]
    return "\n".join(f"**{dataset_title(dataset)}**\n\n{_table(groups[dataset])}" for dataset in order)


def seeds_table(root: Path) -> str:
    """The ModelNet10 family over its seeds, with the paired differences between pruned and dense networks."""
    folders = [root / "zoo" / "checkpoints", root / "mirror", root / "benchmarks" / "seeds"]
    return markdown(rows(entries(folders)[0].values(), "modelnet10"), 32, answers_of(folders, None))


def replace_table(text: str, name: str, table: str) -> str:
    """The text of a file with this table between the two comments of that name.

    Raises:
        ZooError: the comments do not stand there, once each and in order.
    """
    begin, end = (line.format(name) for line in (BEGIN, END))
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    if text.count(begin) != 1 or text.count(end) != 1 or end in before:
        raise ZooError(f"there must be the lines {begin.strip()} and {end.strip()}, once each and in this order")
    return f"{before}{begin}\n{table}\n{end}{after}"


def _table(group: dict[str, tuple[Card, str]]) -> str:
    # By their stems: dgcnn is to stand before dgcnn-0.5x, dgcnn.shapes would stand behind dgcnn-0.5x.shapes.
    names = sorted(group, key=lambda name: (parse_name(name).stem, name))
    families = in_families({name: group[name][0] for name in names})
    rows = [_row(card, group[card.name][1], depth=depth) for card, depth in families]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in (_HEAD, _RULE, *rows))


def _row(card: Card, where: str, *, depth: int) -> tuple[str, ...]:
    timed = [record for record in card.forward if record.device.startswith("cpu") and record.ratio is not None]
    gpu = [record for record in card.forward if record.median_ms is not None]
    return (
        f"{'&emsp;' * depth}`{card.name}`",
        " x ".join(map(str, card.sample_shape)),
        _accuracy(card.accuracy) if card.accuracy else "",
        quantity(card.parameters),
        quantity(card.macs),
        f"{speedup(record)}, {_setting(record)}" if (record := _preferred(timed)) else "",
        f"{record.median_ms:.3f} ms, {_setting(record)}" if (record := _preferred(gpu)) else "",
        where,
    )


def _accuracy(accuracy: Accuracy) -> str:
    split = "" if accuracy.split == "test" else f", {accuracy.split} split"
    return f"{accuracy.correct} / {accuracy.total}, {percent(accuracy)} ({interval(accuracy)}){split}"


def _preferred(records: list[Forward]) -> Forward | None:
    """The one that most other entries have too: float32, eager, of these the largest batch."""
    return min(records, key=lambda r: (r.dtype != "float32", r.mode != "eager", -r.batch), default=None)


def _setting(record: Forward) -> str:
    model = record.device.partition(":")[2].strip()
    unusual = [record.dtype] * (record.dtype != "float32") + [record.mode.replace("_", " ")] * (record.mode != "eager")
    return ", ".join([*filter(None, [model]), f"batch {record.batch}", *unusual])


@click.command()
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 if it would.")
def main(check: bool) -> None:
    for file, name, table in (("README.md", "entries", entry_tables), ("docs/results.md", "seeds", seeds_table)):
        old = (ROOT / file).read_text(encoding="utf-8")
        try:
            new = replace_table(old, name, table(ROOT))
        except ZooError as error:
            raise click.ClickException(f"{file}: {error}") from error
        if new != old and check:
            raise click.ClickException(f"{file} is not what the cards say: type python benchmarks/readme_table.py")
        if new != old:
            (ROOT / file).write_text(new, encoding="utf-8", newline="\n")
        click.echo(f"{file} says what the cards say" if new == old else f"{file} renewed")


if __name__ == "__main__":
    main()
