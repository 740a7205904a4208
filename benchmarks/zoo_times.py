"""Forward times of every entry beside its parent, written to the cards: what `benchmarks/gpu.sh` runs.

    python benchmarks/zoo_times.py [--cards DIR]... [--mirror DIR]... [--out times.jsonl] [--minutes 9] [--dry-run]
    python benchmarks/zoo_times.py --device cpu --modes eager --batches 8 --dtypes float32    speed-ups on a quiet CPU

Entries are those that are shipped, your own and those of this repository's mirror/, or those of the folders that are
named; parents may come from anywhere. A parent and its children run interleaved (`zoo.evaluate.forward_times`: device
events, warm-up, an order shuffled anew each round) on the same random samples: batch 32 and 1, float32 and bfloat16,
eager, as a CUDA graph and compiled. What is cheap comes first for all entries, and before that what no card states yet;
what is measured again begins with what was longest ago, by the lines of --out. A setting that the rest of the time
cannot hold, or that fails, is named and left to the next run. An entry's card is replaced as soon as it was timed:
records of the same device, batch, type and mode are replaced, all others stay. Of a CPU only speed-ups are written, no
times, and only if it is named: without a GPU nothing is measured.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import torch
from card_times import checkpoint_in, default_folders, entries, setting, write

from zoo import checkpoint, display, store
from zoo.cards import Card, Forward
from zoo.distributed import device_of
from zoo.errors import ZooError
from zoo.evaluate import Times, device_name, forward_times
from zoo.utils import keep_freed_memory
from zoo.workflows import forward_record

MODES = {"eager": 2.0, "cuda_graph": 3.0, "compiled": 60.0}  # seconds that a network may take, before any is measured
DTYPES = ("float32", "bfloat16")
BATCHES = (32, 1)
PATIENCE = 3  # a run may take so many times as long as is reckoned with,
LEAST = 10.0  # or so many seconds
CHILDREN = 4  # at once beside their parent: more would not fit torch.compile's limit of 8 versions of one forward


@dataclass(frozen=True)
class Job:
    """Entries to time in one run, in one setting; the first is the others' parent, or alone.

    `kept` are the names whose times are the cards': a parent that is a child elsewhere is timed beside its own parent.
    """

    mode: str
    dtype: str
    batch: int
    cards: tuple[Card, ...]
    kept: frozenset[str]

    def __str__(self) -> str:
        return f"batch {self.batch}, {self.dtype}, {self.mode}: {', '.join(card.name for card in self.cards)}"


@dataclass
class Budget:
    """Until when there is time, and how long a network takes in each mode, as seen so far."""

    deadline: float
    clock: Callable[[], float] = time.monotonic
    seen: dict[tuple[str, str], float] = field(default_factory=dict)

    def cost(self, job: Job) -> float:
        return self.seen.get((job.mode, job.cards[0].arch), MODES[job.mode]) * len(job.cards)

    def holds(self, job: Job) -> bool:
        return self.clock() + self.cost(job) <= self.deadline

    def limit(self, job: Job) -> float:
        """After so many seconds a run is given up: in time for the others, and before gpu.sh would end them all."""
        return min(max(LEAST, PATIENCE * self.cost(job)), self.deadline + LEAST - self.clock())

    def note(self, job: Job, seconds: float) -> None:
        key = (job.mode, job.cards[0].arch)
        self.seen[key] = max(seconds / len(job.cards), self.seen.get(key, 0.0))


def groups(
    cards: Mapping[str, Card], parents: Mapping[str, Card] | None = None
) -> Iterator[tuple[tuple[Card, ...], frozenset[str]]]:
    """Every parent with up to `CHILDREN` of its children that take samples of its shape, every other entry alone;
    and whose times count: those of `cards`, while `parents` stand beside their children only."""
    known = {**(parents or {}), **cards}
    children: dict[str, list[Card]] = {name: [] for name in sorted(known)}
    roots = []
    for card in cards.values():
        if _beside(card, known):
            children[str(card.parent)].append(card)
        else:
            roots.append(card.name)
    for name, own in children.items():
        if not own and name in roots:
            yield (known[name],), frozenset({name})
        for at in range(0, len(own), CHILDREN):
            part = own[at : at + CHILDREN]
            first = {name} if at == 0 and name in roots else set()
            yield (known[name], *part), frozenset({card.name for card in part} | first)


def _beside(card: Card, known: Mapping[str, Card]) -> bool:
    parent = card.parent_in(known)
    return parent is not None and parent.sample_shape == card.sample_shape


def jobs(
    cards: Mapping[str, Card], *, device: str, modes: Sequence[str], dtypes: Sequence[str], batches: Sequence[int],
    parents: Mapping[str, Card] | None = None, tried: Mapping[Tried, int] | None = None,
) -> list[Job]:  # fmt: skip
    """Everything to be timed, in the order in which it is; `tried` says when each was last, as `lines_of` has it."""
    together = sorted(groups(cards, parents), key=lambda group: len(group[0]) == 1)  # what has a speed-up first
    if device == "cpu":  # speed-ups alone: of children beside their parents
        together = [(members, kept - {members[0].name}) for members, kept in together if len(members) > 1]
    found = [
        Job(mode, dtype, batch, members, kept)
        for mode in modes for dtype in dtypes for batch in batches for members, kept in together
    ]  # fmt: skip

    def turn(job: Job) -> tuple[bool, int]:
        wanted = (device, job.batch, job.dtype, job.mode)
        timed = [cards[name] for name in job.kept]
        stated = all(any(setting(record) == wanted for record in card.forward) for card in timed)
        return stated, min((tried or {}).get((card.saved.sha256, *wanted), -1) for card in timed)

    return sorted(found, key=turn)  # stable: what is missing first, then what was longest ago


Tried = tuple[str, str, int, str, str]  # a checkpoint's SHA-256, and the setting: device, batch, type, mode


def lines_of(out: Path | None) -> dict[Tried, int]:
    """The number of the last line of a file of results for every checkpoint and setting, failures included."""
    found: dict[Tried, int] = {}
    for number, text in enumerate(out.read_text(encoding="utf-8").splitlines() if out and out.exists() else []):
        try:
            line = json.loads(text)
            found[line["sha256"], line["device"], line["batch"], line["dtype"], line["mode"]] = number
        except (ValueError, KeyError, TypeError):  # cut off by a kill
            continue
    return found


def plan(todo: Iterable[Job], minutes: float) -> Iterator[str]:
    """A line for every run: the second at which it ends if all take as long as is reckoned with, or that it is left."""
    now = 0.0
    budget = Budget(60 * minutes, lambda: now)
    for job in todo:
        if budget.holds(job):
            now += budget.cost(job)
            yield f"{now:6.0f} s  {job}"
        else:
            yield f"    left  {job}"


Results = dict[str, list[Forward]]


def run(
    todo: Iterable[Job],
    *,
    device: torch.device,
    budget: Budget,
    path: Callable[[Card], Path],
    keep: Callable[[Card, Forward, str | None], None],
    fail: Callable[[Job, str], None],
    repeats: int,
) -> Results:
    """Run the jobs as long as there is time; `keep(card, record, parent)` gets each result as soon as it is there,
    `fail(job, reason)` each failure. Names at the end what there was no time for."""
    results: Results = {}
    left = list(todo)
    try:  # one that was thought too long may not be, once one of its kind was measured
        while (job := next(filter(budget.holds, left), None)) is not None:
            began = budget.clock()
            try:
                with at_most(budget.limit(job) if job.mode == "compiled" else None):
                    times = measure(job, device=device, path=path, repeats=repeats)
            except (Exception, TooLong) as error:  # compilers and drivers raise anything; others are worth having
                left.remove(job)
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
                click.echo(f"failed: {job}: {reason}")
                fail(job, reason)
                continue
            except SystemExit:  # a signal's: the next run begins with what was not tried yet
                fail(job, "stopped")
                raise
            left.remove(job)
            seconds = budget.clock() - began
            budget.note(job, seconds)
            click.echo(f"{seconds:6.1f} s  {job}")
            for card, record, parent in recorded(job, times, device):
                results.setdefault(card.name, []).append(record)
                try:
                    keep(card, record, parent)
                except ZooError as error:
                    click.echo(f"not written: {error}")
    finally:  # after a signal too
        for job in left:
            click.echo(f"left for the next run: {job}")
    return results


class TooLong(BaseException):
    """No Exception, which a compiler might catch."""


@contextmanager
def at_most(seconds: float | None) -> Iterator[None]:
    """Raise TooLong here after so many seconds: a network that a compiler never ends with is no more than that."""
    if seconds is None:
        yield
        return

    def over(number: int, frame: object) -> None:
        raise TooLong(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def recorded(job: Job, times: Mapping[str, Times], device: torch.device) -> Iterator[tuple[Card, Forward, str | None]]:
    """The records of those whose times count, with the name of the parent that they ran beside; on a CPU of these."""
    for card in job.cards:
        parent = None if card is job.cards[0] else job.cards[0].name
        if card.name not in job.kept or (parent is None and device.type != "cuda"):
            continue
        how = {"batch": job.batch, "dtype": job.dtype, "mode": job.mode}
        yield card, forward_record(times[card.name], device, **how, parent=parent is not None), parent  # type: ignore[arg-type]


def measure(job: Job, *, device: torch.device, path: Callable[[Card], Path], repeats: int) -> dict[str, Times]:
    """Time the job's networks on normally distributed samples (B, ...) of their shape."""
    torch.compiler.reset()  # earlier networks of the same class would count against the compiler's limit
    models = {card.name: checkpoint.load(path(card), device=device, card=card) for card in job.cards}
    shape = job.cards[0].sample_shape
    x = torch.randn(job.batch, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    return forward_times(models, x, repeats=repeats, warmup=max(3, repeats // 5), dtype=job.dtype, mode=job.mode)


def table(results: Results) -> str:
    """One line for each entry, batch and type; the modes side by side."""
    modes = [mode for mode in MODES if any(r.mode == mode for records in results.values() for r in records)]
    rows = [("entry", "batch", "type", *modes)]
    for name, records in results.items():
        for batch, dtype in dict.fromkeys((r.batch, r.dtype) for r in records):
            cells = {r.mode: _cell(r) for r in records if (r.batch, r.dtype) == (batch, dtype)}
            rows.append((name, str(batch), dtype, *(cells.get(mode, "") for mode in modes)))
    return display.table(rows)


def _cell(record: Forward) -> str:
    ms = "" if record.median_ms is None else f"{record.median_ms:.3f} ms (95 %: {record.p95_ms:.3f})"
    return "  ".join(part for part in (ms, display.speedup(record)) if part)


def parents_of(cards: Mapping[str, Card], mirror: Sequence[str]) -> tuple[dict[str, Card], list[str]]:
    """The cards of parents that are not among these, from this machine's zoo or a mirror; and a sentence for every
    entry that has to be timed alone."""
    wanted = {card.parent for card in cards.values() if card.parent} - cards.keys()
    known = store.cards(store.configured_mirrors(mirror or None)) if wanted else {}
    parents = {name: card for name, card in known.items() if name in wanted}
    said, both = [], {**parents, **cards}
    for card in cards.values():
        if card.parent and not _beside(card, both):
            there = "takes other samples" if card.parent_in(both) else "was made anew since"
            why = there if card.parent in both else "is neither here nor on a mirror"
            said.append(f"{card.name} is timed alone: its parent {card.parent} {why}")
    return parents, said


def _words(text: str, known: Iterable[str]) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in known:
            raise click.UsageError(f"{word!r} is none of {', '.join(known)}.")
    return words


@click.command()
@click.option("--cards", "folders", multiple=True, type=click.Path(file_okay=False, exists=True, path_type=Path),
              help="Folder of entries to time; may be repeated [shipped, your own, mirror/ here].")  # fmt: skip
@click.option("--mirror", multiple=True, help="Where parents are looked for that lie elsewhere; may be repeated.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Each result as a line of JSON.")
@click.option("--minutes", default=9.0, show_default=True)
@click.option("--repeats", default=100, show_default=True)
@click.option("--modes", default=",".join(MODES), show_default=True)
@click.option("--dtypes", default=",".join(DTYPES), show_default=True)
@click.option("--batches", default=",".join(map(str, BATCHES)), show_default=True)
@click.option("--device", default="cuda", show_default=True)
@click.option("--dry-run", is_flag=True, help="Print what would be timed, in its order; measure nothing.")
def main(
    folders: tuple[Path, ...], mirror: tuple[str, ...], out: Path | None, minutes: float, repeats: int, modes: str,
    dtypes: str, batches: str, device: str, dry_run: bool,
) -> None:  # fmt: skip
    gpu = not device.startswith("cuda") or torch.cuda.is_available()
    if not gpu and not dry_run:
        raise click.ClickException("there is no CUDA GPU here: nothing was measured, and nothing written")
    began = time.monotonic()
    places = folders or default_folders()
    try:
        place = device_of(device) if gpu else torch.device("cuda")
        known, said = entries(places)
        parents, alone = parents_of(known, mirror)
        name = "cuda" if not gpu else f"cuda: {device_name(place)}" if place.type == "cuda" else "cpu"
        todo = jobs(known, device=name, modes=_words(modes, MODES), dtypes=_words(dtypes, DTYPES),
                    batches=[int(batch) for batch in batches.split(",")],
                    parents=parents, tried=lines_of(out))  # fmt: skip
    except (ZooError, ValueError) as error:
        raise click.ClickException(str(error)) from error

    def line(card: Card, **more: object) -> None:
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            with open(out, "a", encoding="utf-8") as file:
                file.write(json.dumps({"name": card.name, "sha256": card.saved.sha256, **more}) + "\n")

    def keep(card: Card, record: Forward, parent: str | None) -> None:
        write(card, record, places)
        beside = None if parent is None else {**parents, **known}[parent].saved.sha256
        line(card, parent=parent, parent_sha256=beside, **asdict(record))

    def fail(job: Job, reason: str) -> None:
        for each in sorted(job.kept):
            line(known[each], device=name, batch=job.batch, dtype=job.dtype, mode=job.mode, failed=reason)

    if not todo:
        raise click.ClickException("nothing to time: no entry's parent is here, and of a CPU there are speed-ups alone")
    click.echo(f"{name}, torch {torch.__version__}, {len(known)} entries, {len(todo)} runs, {minutes:g} minutes")
    for sentence in said + alone:
        click.echo(sentence)
    if dry_run:
        for text in plan(todo, minutes):
            click.echo(text)
        return
    keep_freed_memory()
    results = run(todo, device=place, budget=Budget(began + 60 * minutes), repeats=repeats,
                  path=checkpoint_in(places, mirror), keep=keep, fail=fail)  # fmt: skip
    click.echo(table(results))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is left is named then too
    main()
