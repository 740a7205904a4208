"""Forward times of every entry beside its parent, into OUT/forward.jsonl; `gpu_day.sh merge` puts them onto cards.

    bash benchmarks/gpu_day.sh forward [OUT] [--modes eager,cuda_graph] [--cards DIR]... [--dry-run]
    bash benchmarks/gpu_day.sh forward OUT --device cpu --modes eager --batches 8 --dtypes float32 --repeats 40

Entries are those that are shipped, your own and those of this repository's mirror/, or those of the folders that are
named; parents may come from anywhere. A parent and its children run interleaved (`zoo.evaluate.forward_times`) on the
same random samples. What neither a card nor OUT states comes first, and of that what is cheap: all entries in one
setting before the next setting. A setting that the rest of the time cannot hold, or that fails, is named. On a CPU only
speed-ups are measured, no times. A network whose checkpoint is not on this machine has random weights, which cost the
same.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import torch
from card_times import default_folders, entries
from torch import nn

from gpu_day.common import Recorder, device_for, read_lines, reason, step_options
from gpu_day.merge import setting
from zoo import checkpoint, display, store
from zoo.cards import Card, Forward
from zoo.errors import ZooError
from zoo.evaluate import Times, device_name, forward_times
from zoo.models import create_model
from zoo.workflows import forward_record

MODES = {"eager": 2.0, "cuda_graph": 3.0, "compiled": 30.0}  # seconds per network, before any is measured
DTYPES = ("float32", "bfloat16")
BATCHES = (32, 1)
PATIENCE = 3  # a compiled run is given up after so many times the expected seconds,
LEAST = 20.0  # but not before so many seconds
CHILDREN = 4  # at once beside a parent: more would not fit torch.compile's limit of 8 versions of one forward
BROKEN = 3  # exit code: the GPU's context is lost after an illegal access, only a new process can go on

Setting = tuple[str, str, int, str, str]  # a checkpoint's SHA-256, device, batch, dtype, mode


@dataclass(frozen=True)
class Job:
    """Entries to time in one run, in one setting; the first is the others' parent, or alone.

    `recorded` names the entries whose times count: a parent that is itself a child is timed beside its own parent.
    """

    mode: str
    dtype: str
    batch: int
    cards: tuple[Card, ...]
    recorded: frozenset[str]

    def __str__(self) -> str:
        return f"batch {self.batch}, {self.dtype}, {self.mode}: {', '.join(card.name for card in self.cards)}"


@dataclass
class Budget:
    """How much time is left, and how long a network takes in each mode, as measured so far."""

    deadline: float
    clock: Callable[[], float] = time.monotonic
    measured: dict[tuple[str, str], float] = field(default_factory=dict)

    def cost(self, job: Job) -> float:
        """Seconds that the job is expected to take."""
        return self.measured.get((job.mode, job.cards[0].arch), MODES[job.mode]) * len(job.cards)

    def holds(self, job: Job) -> bool:
        return self.clock() + self.cost(job) <= self.deadline

    def limit(self, job: Job) -> float:
        """Seconds after which the job is given up: the runner stops the whole step at the deadline and a bit."""
        return min(max(LEAST, PATIENCE * self.cost(job)), self.deadline - self.clock())

    def note(self, job: Job, seconds: float) -> None:
        """Remember the longest time per network of this mode and architecture."""
        key = (job.mode, job.cards[0].arch)
        self.measured[key] = max(seconds / len(job.cards), self.measured.get(key, 0.0))


def families(
    cards: Mapping[str, Card], parents: Mapping[str, Card] | None = None
) -> Iterator[tuple[tuple[Card, ...], frozenset[str]]]:
    """Every parent with up to CHILDREN of its children that take samples of its shape, every other entry alone, and the
    names whose times count: those of `cards`; `parents` only stand beside their children."""
    known = {**(parents or {}), **cards}
    children: dict[str, list[Card]] = {name: [] for name in sorted(known)}
    roots = set()
    for card in cards.values():
        if _timed_beside_parent(card, known):
            children[str(card.parent)].append(card)
        else:
            roots.add(card.name)
    for name, family in children.items():
        if not family and name in roots:
            yield (known[name],), frozenset({name})
        for start in range(0, len(family), CHILDREN):
            part = family[start : start + CHILDREN]
            root = {name} if start == 0 and name in roots else set()
            yield (known[name], *part), frozenset({card.name for card in part} | root)


def _timed_beside_parent(card: Card, known: Mapping[str, Card]) -> bool:
    parent = card.parent_in(known)
    return parent is not None and parent.sample_shape == card.sample_shape


def jobs(
    cards: Mapping[str, Card], *, device: str, modes: Sequence[str], dtypes: Sequence[str], batches: Sequence[int],
    parents: Mapping[str, Card] | None = None, measured: Iterable[Setting] = (), scale: float = 1.0,
) -> list[Job]:  # fmt: skip
    """All jobs in the order in which they run; `measured` are settings that count as stated beside those of the cards.

    Below a `scale` of 1 only that part of the families, those of the fewest MACs.
    """
    found = sorted(families(cards, parents), key=lambda family: len(family[0]) == 1)  # what has a speed-up first
    if device == "cpu":  # speed-ups only: of children beside their parents
        found = [(members, names - {members[0].name}) for members, names in found if len(members) > 1]
    if scale < 1:
        found = sorted(found, key=lambda family: family[0][0].macs or math.inf)[: math.ceil(scale * len(found))]
    planned = [
        Job(mode, dtype, batch, members, names)
        for mode in modes for dtype in dtypes for batch in batches for members, names in found
    ]  # fmt: skip
    stated = {(card.saved.sha256, *setting(record)) for card in cards.values() for record in card.forward}
    stated.update(measured)

    def is_stated(job: Job) -> bool:
        return all(
            (cards[name].saved.sha256, device, job.batch, job.dtype, job.mode) in stated for name in job.recorded
        )

    return sorted(planned, key=is_stated)  # stable: what is missing comes first


def measured_settings(lines: Iterable[Mapping[str, object]]) -> set[Setting]:
    """The settings of the lines of OUT/forward.jsonl, failures included."""
    keys = ("sha256", "device", "batch", "dtype", "mode")
    return {tuple(line.get(key) for key in keys) for line in lines}  # type: ignore[misc]


def plan(todo: Iterable[Job], seconds: float) -> Iterator[str]:
    """A line for every job: the second at which it ends if all take as long as expected, or that it is left."""
    now = 0.0
    budget = Budget(seconds, lambda: now)
    for job in todo:
        if budget.holds(job):
            now += budget.cost(job)
            yield f"{now:6.0f} s  {job}"
        else:
            yield f"    left  {job}"


def run(
    todo: Iterable[Job], *, device: torch.device, budget: Budget, folders: Sequence[Path], record: Recorder,
    repeats: int,
) -> None:  # fmt: skip
    """Run the jobs as long as there is time, and name at the end what there was no time for.

    `record` gets each result, and each failure, as soon as it is there; exits with BROKEN if the GPU's context is lost.
    """
    left = list(todo)
    try:  # a job that was expected to take too long may fit once one of its kind was measured
        while (job := next(filter(budget.holds, left), None)) is not None:
            began = budget.clock()
            try:
                with time_limit(budget.limit(job) if job.mode == "compiled" else None):
                    times = measure(job, device=device, folders=folders, repeats=repeats)
            except (Exception, TooLong, SystemExit) as error:  # compilers and drivers raise anything
                left.remove(job)
                if isinstance(error, TooLong):
                    budget.note(job, budget.clock() - began)
                record_failure(job, device, reason(error), record)
                if isinstance(error, SystemExit):  # a signal's
                    raise
                if "CUDA error" in str(error):
                    raise SystemExit(BROKEN) from error
                continue
            left.remove(job)
            seconds = budget.clock() - began
            budget.note(job, seconds)
            click.echo(f"{seconds:6.1f} s  {job}")
            record_times(job, times, device, record)
    finally:  # after a signal too
        for job in left:
            click.echo(f"left for the next run: {job}")


class TooLong(BaseException):
    """A job is over its time; no Exception, which a compiler might catch."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TooLong in the block after so many seconds, so that a compiler that never ends costs no more."""
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


def measure(job: Job, *, device: torch.device, folders: Sequence[Path], repeats: int) -> dict[str, Times]:
    """Time the job's networks on normally distributed samples (B, ...) of their shape."""
    torch.compiler.reset()  # earlier networks of the same class would count against the compiler's limit
    models = {card.name: network(card, folders, device) for card in job.cards}
    shape = job.cards[0].sample_shape
    x = torch.randn(job.batch, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    return forward_times(models, x, repeats=repeats, warmup=max(2, repeats // 5), dtype=job.dtype, mode=job.mode)


def network(card: Card, folders: Sequence[Path], device: torch.device) -> nn.Module:
    """The entry's network from its verified checkpoint in these folders or the zoo; with random weights without one."""
    places = (*folders, store.user_dir(), store.cache_dir(), store.package_dir())
    file = next((place / card.saved.name for place in places if (place / card.saved.name).is_file()), None)
    if file is None:
        model = create_model(card.arch, num_classes=card.num_classes, widths=card.widths, **card.options)
        return model.to(device).eval()
    store.verify_file(file, card)
    return checkpoint.load(file, device=device, card=card)


def record_times(job: Job, times: Mapping[str, Times], device: torch.device, record: Recorder) -> None:
    """A line for each entry whose times count, with its parent's name and SHA-256 if it ran beside it."""
    root = job.cards[0]
    for card in job.cards:
        parent = None if card is root else root
        if card.name not in job.recorded or (parent is None and device.type != "cuda"):
            continue
        how = {"batch": job.batch, "dtype": job.dtype, "mode": job.mode}
        forward = forward_record(times[card.name], device, **how, parent=parent is not None)  # type: ignore[arg-type]
        entry = {"name": card.name, "sha256": card.saved.sha256, **asdict(forward)}
        beside = {"parent": parent and parent.name, "parent_sha256": parent and parent.saved.sha256}
        record(f"          {card.name}  {_cell(forward)}", **entry, **beside)


def record_failure(job: Job, device: torch.device, why: str, record: Recorder) -> None:
    """A line for each entry whose times would have counted."""
    record.failures += 1
    for card in job.cards:
        if card.name in job.recorded:
            how = {"device": _device(device), "batch": job.batch, "dtype": job.dtype, "mode": job.mode}
            record(f"failed: {job}: {why}", name=card.name, sha256=card.saved.sha256, **how, failed=why)


def _device(device: torch.device) -> str:
    """The device as it stands on a card."""
    return f"cuda: {device_name(device)}" if device.type == "cuda" else "cpu"


def table(lines: Iterable[Mapping[str, object]]) -> str:
    """One row for each entry, batch and dtype; the modes side by side."""
    names = set(Forward.__dataclass_fields__)
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for line in lines:
        if "failed" not in line:
            forward = Forward(**{key: value for key, value in line.items() if key in names})  # type: ignore[arg-type]
            row = (str(line["name"]), str(forward.batch), forward.dtype)
            cells.setdefault(row, {})[forward.mode] = _cell(forward)
    modes = [mode for mode in MODES if any(mode in by_mode for by_mode in cells.values())]
    rows = [(*row, *(by_mode.get(mode, "") for mode in modes)) for row, by_mode in sorted(cells.items())]
    return display.table([("entry", "batch", "dtype", *modes), *rows])


def _cell(forward: Forward) -> str:
    ms = "" if forward.median_ms is None else f"{forward.median_ms:.3f} ms (95 %: {forward.p95_ms:.3f})"
    return "  ".join(part for part in (ms, display.speedup(forward)) if part)


def parents_of(cards: Mapping[str, Card]) -> tuple[dict[str, Card], list[str]]:
    """Cards of parents that are not among `cards`, from the zoo or its mirrors, and a sentence for every entry that is
    timed alone although its card names a parent."""
    missing = {card.parent for card in cards.values() if card.parent} - cards.keys()
    known = store.cards(store.configured_mirrors()) if missing else {}
    parents = {name: card for name, card in known.items() if name in missing}
    sentences, both = [], {**parents, **cards}
    for card in cards.values():
        if card.parent and not _timed_beside_parent(card, both):
            mismatch = "takes other samples" if card.parent_in(both) else "is now another checkpoint"
            why = mismatch if card.parent in both else "is neither here nor on a mirror"
            sentences.append(f"{card.name} is timed alone: its parent {card.parent} {why}")
    return parents, sentences


def _choices(text: str, possible: Iterable[str]) -> list[str]:
    chosen = [word.strip() for word in text.split(",")]
    for word in chosen:
        if word not in possible:
            raise click.UsageError(f"{word!r} is none of {', '.join(possible)}.")
    return chosen


@click.command()
@step_options
@click.option("--cards", "folders", multiple=True, type=click.Path(file_okay=False, exists=True, path_type=Path),
              help="Folder of entries to time; may be repeated [shipped, your own, mirror/ here].")  # fmt: skip
@click.option("--repeats", default=100, show_default=True)
@click.option("--modes", default=",".join(MODES), show_default=True)
@click.option("--dtypes", default=",".join(DTYPES), show_default=True)
@click.option("--batches", default=",".join(map(str, BATCHES)), show_default=True)
@click.option("--dry-run", is_flag=True, help="Print what would be timed, in its order; measure nothing.")
def main(
    out: Path, scale: float, device: str | None, seconds: float, folders: tuple[Path, ...],
    repeats: int, modes: str, dtypes: str, batches: str, dry_run: bool,
) -> None:  # fmt: skip
    began = time.monotonic()
    where = torch.device(device or "cuda") if dry_run else device_for(device, scale)
    folders = folders or default_folders()
    file = out / "forward.jsonl"
    try:
        cards, sentences = entries(folders)
        parents, alone = parents_of(cards)
        name = "cuda" if dry_run and not torch.cuda.is_available() else _device(where)
        sizes = dict.fromkeys(max(1, int(int(batch) * scale)) for batch in batches.split(","))
        todo = jobs(cards, device=name, modes=_choices(modes, MODES), dtypes=_choices(dtypes, DTYPES),
                    batches=list(sizes), parents=parents, measured=measured_settings(read_lines(file)),
                    scale=scale)  # fmt: skip
    except (ZooError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if not todo:
        raise click.ClickException("nothing to time: no entry's parent is here, and of a CPU there are speed-ups alone")
    click.echo(f"{name}, torch {torch.__version__}, {len(cards)} entries, {len(todo)} runs, {seconds:.0f} s")
    for sentence in sentences + alone:
        click.echo(sentence)
    if dry_run:
        for text in plan(todo, seconds):
            click.echo(text)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is left is named then too
    run(todo, device=where, budget=Budget(began + seconds), repeats=max(2, int(repeats * scale)),
        folders=folders, record=Recorder(file, seconds, scale))  # fmt: skip
