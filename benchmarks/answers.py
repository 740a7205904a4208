"""Which test samples each network of Table 3 answers correctly: then `table3.py --paired` needs no weights and no data.

    python benchmarks/answers.py [--cards DIR]... [--data-dir DIR]

evaluates the ModelNet10 entries whose checkpoint has no answers in `answers.json` yet, and writes theirs beside those
that are there. A folder of `--cards` holds cards and checkpoints, a mirror for instance. The file has a line for every
entry: the SHA-256 of the checkpoint that was evaluated, the numbers of correct answers and of samples, and one bit for
each sample in the order of the test split (1: correct, first sample first), in base64.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
from card_times import ROOT, checkpoint_in, default_folders, entries
from numpy.typing import NDArray

from zoo import store
from zoo.cards import Card
from zoo.errors import ZooError
from zoo.utils import new_file

FILE = Path(__file__).with_name("answers.json")
SEEDS = ROOT / "benchmarks" / "seeds"  # cards of the ModelNet10 family trained with other seeds
DATASET = "modelnet10"
ROUNDING = 2  # answers that may differ on another processor, which rounds sums in another order

Correct = NDArray[np.bool_]  # (samples,): whether the network answers each sample correctly
Answers = Callable[[Card], Correct]


def read(file: Path) -> dict[str, Correct]:
    """The stored answers by the SHA-256 of the checkpoint: bool (samples,), True for a correct one."""
    records = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {record["sha256"]: unpack(record["answers"], record["total"]) for record in records.values()}


def write(answers: dict[str, tuple[str, Correct]], file: Path) -> None:
    """Store answers by entry name: the checkpoint's SHA-256 and bool (samples,)."""
    lines = []
    for name, (sha256, correct) in sorted(answers.items()):
        record = {"sha256": sha256, "correct": int(correct.sum()), "total": len(correct), "answers": pack(correct)}
        lines.append(f"{json.dumps(name)}: {json.dumps(record)}")
    with new_file(file) as out:
        out.write(("{\n" + ",\n".join(lines) + "\n}\n").encode())


def pack(correct: Correct) -> str:
    """Bool (samples,) as base64, one bit a sample, the first one in the highest bit."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode()


def unpack(text: str, total: int) -> Correct:
    """The bool (total,) that `pack` wrote."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8), count=total).astype(bool)


def evaluated(card: Card, path: Path, data_dir: Path | None) -> Correct:
    """The answers of the network in a checkpoint on its test split."""
    from zoo import checkpoint  # torch takes seconds to import, and stored answers do without
    from zoo.evaluate import evaluate
    from zoo.workflows import DataSpec, choose_device

    model = checkpoint.load(path, device=choose_device(None), card=card)
    test = DataSpec.of(card, DataSpec(data_dir=data_dir)).load("test")
    return evaluate(model, test, progress=True).hits.cpu().numpy()


def answers_of(folders: Sequence[Path], data_dir: Path | None) -> Answers:
    """A function from a card to its network's answers on the test split, bool (samples,): those stored for its
    checkpoint, or else those of the network itself, loaded from these folders and evaluated once.

    It raises ZooError where the number of correct answers is not the card's up to `ROUNDING`.
    """
    known, path = read(FILE), checkpoint_in(folders)

    def answers(card: Card) -> Correct:
        stated = card.accuracy
        if card.saved.sha256 not in known:
            known[card.saved.sha256] = evaluated(card, path(card), data_dir)
        correct = known[card.saved.sha256]
        count, total = int(correct.sum()), len(correct)
        if stated is None or abs(count - stated.correct) > ROUNDING or total != stated.total:
            counted = "nothing" if stated is None else f"{stated.correct} of {stated.total}"
            raise ZooError(f"{card.name} has {count} of {total} right, and its card says {counted}")
        return correct

    return answers


@click.command()
@click.option("--cards", "folders", multiple=True, type=click.Path(file_okay=False, exists=True, path_type=Path),
              help="A folder of cards and checkpoints, or several [this machine's zoo and mirror/].")  # fmt: skip
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the data set lies [ZOO_DATA_DIR].")
def main(folders: tuple[Path, ...], data_dir: Path | None) -> None:
    places = folders or (*default_folders(), store.cache_dir())
    try:
        records = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
        answers = {name: (r["sha256"], unpack(r["answers"], r["total"])) for name, r in records.items()}
        answer = answers_of(places, data_dir)
        for card in entries(places)[0].values():
            if card.dataset == DATASET and card.accuracy:
                answers[card.name] = card.saved.sha256, answer(card)
                write(answers, FILE)
                click.echo(f"{card.name}: {int(answers[card.name][1].sum())} of {len(answers[card.name][1])} correct")
    except ZooError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
