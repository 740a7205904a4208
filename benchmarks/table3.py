"""The paper's Table 3 (Ye et al. 2020) from the cards of a zoo: PointNet, PointNet++, DGCNN, its width multipliers and,
under each, the pruned network of no higher cost.

    python benchmarks/table3.py [--cards DIR] [--dataset modelnet10] [--batch 32] [--json]
    python benchmarks/table3.py --paired [--data-dir DIR]      compares the pruned networks sample by sample

Entries whose names differ in their seed alone (dgcnn-0.75x.modelnet10, dgcnn-0.75x-seed1.modelnet10) share a row if
their clouds have the same number of points; of several numbers the mean or the least and largest are given. The
interval (Wilson, 95 %) is that of the mean share on as many samples as one test set has: all seeds answer for the same
samples, so more seeds do not make smaller what another choice of samples would change. Forward times are of the
`--batch` in float32, eager, on a GPU; without one, of a CPU's record its ratio alone. Nothing is computed here but
means and their intervals; what no card states stays empty. Pruned are the networks of the combined method, repaired
those with that in their name (dgcnn-pruned-0.25x-repaired.modelnet10). Below the table each stands against the dense
multiplier of its width; `--paired` compares sample by sample, by the answers in answers.json or, for a network that has
none there, by evaluating it, and gives the 95 % interval of the difference.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from answers import SEEDS, Answers, answers_of
from card_times import default_folders, entries

from zoo import display, store
from zoo.cards import Card, Forward, paired_difference_ci, parse_name, wilson_interval
from zoo.errors import ZooError

TITLES = {"pointnet": "PointNet", "pointnet2": "PointNet++", "dgcnn": "DGCNN"}
HEAD = ("network", "seeds", "right", "accuracy", "95 %", "params", "MACs", "forward", "speed-up", "points", "epochs")
_STEM = re.compile(
    r"(?P<arch>pointnet2?|dgcnn)(?P<pruned>-pruned)?(-(?P<width>[0-9.]+)x)?(?P<repaired>-repaired)?(-seed[0-9]+)?"
)
KINDS = ("", "pruned", "repaired")


@dataclass(frozen=True)
class Row:
    """One network of the table: the cards of its seeds, in the order of their names, for clouds of `points` points."""

    arch: str
    kind: str  # of KINDS: dense, pruned by the combined method, by the repaired one
    width: float
    points: int
    cards: tuple[Card, ...]

    @property
    def title(self) -> str:
        name = ", ".join(filter(None, [TITLES[self.arch], self.kind]))
        return name if self.width == 1 and self.arch != "dgcnn" else f"{name} ({self.width:g}x)"

    @property
    def shares(self) -> list[float]:
        """The accuracy of each seed."""
        return [card.accuracy.share for card in self.cards if card.accuracy]

    @property
    def right(self) -> tuple[int, int] | None:
        """Right answers and samples over all seeds."""
        counted = [card.accuracy for card in self.cards if card.accuracy]
        return (sum(a.correct for a in counted), sum(a.total for a in counted)) if counted else None

    @property
    def splits(self) -> set[tuple[str, int]]:
        """On what the seeds were judged: names and sizes."""
        return {(card.accuracy.split, card.accuracy.total) for card in self.cards if card.accuracy}

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the mean share, on the samples of one seed: they are the same for all. None without answers, or where the
        seeds were not judged on one set of samples."""
        if len(self.splits) != 1:
            return None
        ((_, total),) = self.splits
        return wilson_interval(statistics.mean(self.shares) * total, total)  # type: ignore[arg-type]  # a mean need not be whole


def rows(cards: Iterable[Card], dataset: str) -> list[Row]:
    """The table's rows in the paper's order; entries of other names and data sets are left out."""
    groups: dict[tuple[str, str, float, int], list[Card]] = {}
    for card in sorted(cards, key=lambda card: parse_name(card.name).stem):
        stem = _STEM.fullmatch(parse_name(card.name).stem)
        if stem is not None and stem["repaired"] and not stem["pruned"]:
            continue
        if card.dataset == dataset and stem is not None and stem["arch"] == card.arch:
            kind = "" if not stem["pruned"] else "repaired" if stem["repaired"] else "pruned"
            key = card.arch, kind, float(stem["width"] or 1), card.sample_shape[-1]
            groups.setdefault(key, []).append(card)

    def sort_key(key: tuple[str, str, float, int]) -> tuple[int, float, int, int]:
        arch, kind, width, points = key
        return list(TITLES).index(arch), -width, KINDS.index(kind), points

    return [Row(*key, tuple(groups[key])) for key in sorted(groups, key=sort_key)]


def shown_time(card: Card, batch: int) -> Forward | None:
    """The record that the table shows: float32, eager; on a GPU of that batch, else the CPU's first."""
    plain = [record for record in card.forward if (record.dtype, record.mode) == ("float32", "eager")]
    cuda = [record for record in plain if record.device.startswith("cuda") and record.batch == batch]
    return next(iter([*cuda, *(record for record in plain if record.device == "cpu")]), None)


def table_cells(row: Row, batch: int) -> tuple[str, ...]:
    """A line of the table."""
    records = [record for card in row.cards if (record := shown_time(card, batch))]
    devices = sorted({display.timing_setup(record) for record in records})
    if len(devices) > 1:  # of different machines there is no common number
        records, devices = [], []
    ms = [record.median_ms for record in records if record.median_ms is not None]
    ratios = [record.ratio for record in records if record.ratio is not None]
    where = f" ({devices[0]})" if devices else ""
    right = row.right
    splits = sorted({split for split, _ in row.splits} - {"test"})
    epochs = [card.recipe.get("finetune_epochs" if row.kind else "epochs") for card in row.cards]
    return (
        row.title,
        str(len(row.cards)),
        "" if right is None else " ".join([f"{right[0]}/{right[1]}", *(f"({split})" for split in splits)]),
        _mean(row.shares),
        "" if row.interval is None else "{:.1f} to {:.1f}".format(*(100 * end for end in row.interval)),
        _range([card.parameters for card in row.cards], display.quantity),
        _range([card.macs for card in row.cards if card.macs is not None], display.quantity),
        _range(ms, lambda value: f"{value:.3f} ms") + (where if ms else ""),
        _range(ratios, lambda value: f"{value:.2f}x") + (where if ratios else ""),
        str(row.points),
        _range([count for count in epochs if isinstance(count, int)], str),
    )


def share_correct(row: Row, answers: Answers) -> list[float]:
    """For each test sample the share of the row's networks that answer it correctly."""
    return np.mean([answers(card) for card in row.cards], axis=0).tolist()  # type: ignore[no-any-return]


def compare_with_dense(table: Sequence[Row], answers: Answers | None = None) -> list[str]:
    """A sentence for every pruned DGCNN that stands beside a dense multiplier, judged on the same samples; with the
    `answers` of each network the difference has its paired 95 % interval."""
    dense = {(row.width, row.points): row for row in table if row.arch == "dgcnn" and not row.kind}
    sentences = []
    for row in table:
        other = dense.get((row.width, row.points))
        if not row.kind or other is None or len(row.splits) != 1 or row.splits != other.splits:
            continue
        gap = 100 * (statistics.mean(row.shares) - statistics.mean(other.shares))
        several = f", {row.points} points" if len({line.points for line in table}) > 1 else ""
        points = f"{gap:+.2f} points"
        if answers is not None:
            difference = paired_difference_ci(share_correct(row, answers), share_correct(other, answers))
            points = "{:+.2f} ± {:.2f} points".format(*(100 * part for part in difference))
        line = f"{row.width:g}x{several}: the {row.kind} network has {points} of accuracy against the dense one"
        most, least = max(c.macs or 0 for c in row.cards), min(c.macs or 0 for c in other.cards)
        if most > least > 0:
            line += f", and costs more ({display.quantity(most)} against {display.quantity(least)} MACs)"
        sentences.append(line)
    return sentences


def markdown(table: Sequence[Row], batch: int, answers: Answers) -> str:
    """The table with the paired differences below it, for docs/results.md; columns that no card fills are left out."""
    lines = [HEAD, *(table_cells(row, batch) for row in table)]
    filled = [i for i in range(len(HEAD)) if any(line[i] for line in lines[1:])]
    cells = [[line[i] for i in filled] for line in lines]
    cells.insert(1, ["---"] * len(filled))
    differences = "".join(f"* {line}\n" for line in compare_with_dense(table, answers))
    return "".join(f"| {' | '.join(line)} |\n" for line in cells) + f"\n{differences}"


def as_json(table: Sequence[Row], batch: int) -> list[dict[str, Any]]:
    """The rows with their numbers as they stand on the cards."""
    return [
        {
            "network": row.title,
            "kind": row.kind or "dense",
            "points": row.points,
            "entries": [card.name for card in row.cards],
            "accuracy": statistics.mean(row.shares) if row.shares else None,
            "accuracies": row.shares,
            "right": row.right,
            "interval": row.interval,
            "parameters": [card.parameters for card in row.cards],
            "macs": [card.macs for card in row.cards],
            "forward": [None if (r := shown_time(card, batch)) is None else vars(r) for card in row.cards],
        }
        for row in table
    ]


def _mean(shares: Sequence[float]) -> str:
    """The mean in percent, with the least and the largest where there are several."""
    if not shares:
        return ""
    spread = f" ({100 * min(shares):.2f} to {100 * max(shares):.2f})" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):.2f}{spread}"


def _range(values: Sequence[Any], format_value: Callable[[Any], str]) -> str:
    texts = [format_value(value) for value in sorted(values)]
    return "" if not texts else texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"


@click.command()
@click.option("--cards", "folders", multiple=True, type=click.Path(file_okay=False, exists=True, path_type=Path),
              help="A folder of cards, or several [this machine's zoo, mirror/ and benchmarks/seeds/].")  # fmt: skip
@click.option("--dataset", default="modelnet10", show_default=True)
@click.option("--batch", default=32, show_default=True, help="Whose forward times on a GPU to show.")
@click.option("--paired", is_flag=True, help="Compare pruned with dense networks sample by sample.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the data set lies [ZOO_DATA_DIR].")
@click.option("--json", "in_json", is_flag=True)
def main(
    folders: tuple[Path, ...], dataset: str, batch: int, paired: bool, data_dir: Path | None, in_json: bool
) -> None:  # fmt: skip
    sources = folders or (*default_folders(), store.cache_dir(), SEEDS)
    try:
        table = rows(entries(sources)[0].values(), dataset)
    except ZooError as error:
        raise click.ClickException(str(error)) from error
    if not table:
        raise click.ClickException(
            f"no entry of {dataset} belongs to the table: train some with benchmarks/train_all.py"
        )
    if in_json and paired:
        raise click.UsageError("--paired adds to the table's last lines, which --json does not print: give one of them")
    if in_json:
        click.echo(json.dumps(as_json(table, batch), indent=2))
        return
    click.echo(display.table([HEAD, *(table_cells(row, batch) for row in table)]))
    try:
        sentences = compare_with_dense(table, answers_of(sources, data_dir) if paired else None)
    except ZooError as error:
        raise click.ClickException(str(error)) from error
    if sentences:
        click.echo("\n".join(["", *sentences]))


if __name__ == "__main__":
    main()
