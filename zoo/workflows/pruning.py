"""Prune an entry again with another tolerance, fine-tune it if asked, measure it beside its parent, and save it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo import checkpoint, distributed, models, store
from zoo.cards import UNKNOWN, Card, Value
from zoo.convert import read_weights
from zoo.datasets import PRUNING_SAMPLES, LabelledDataset
from zoo.errors import ZooError, suggest
from zoo.evaluate import batch_indices, batches, count
from zoo.models import groups_of
from zoo.prune import (
    SEARCH_ALIASES,
    Budget,
    Options,
    PruneReport,
    Repair,
    Runtime,
    Search,
    get_method,
    prune,
    resolve_config,
)
from zoo.train import Recipe, check_log, recipe_for, train
from zoo.utils import check_seed, sha256_of
from zoo.workflows.entry import (
    Data,
    Made,
    Measured,
    Run,
    check_name,
    check_out,
    choose_device,
    command_line,
    halved,
    held_for_halving,
    make_card,
    measure,
    run_folder,
    same_classes,
    save,
    time_beside,
    warn_of_seen,
)
from zoo.workflows.pruning_options import GOALS, budget_options, repair_options


@dataclass(frozen=True)
class Repruned(Made):
    """A saved entry, its parent's measures, and the report of the pruning, group by group."""

    pruning: PruneReport | None = None
    both: int = 0
    only_before: int = 0
    only_after: int = 0

    def table(self) -> str:
        pairs = f"right in both {self.both}, only before {self.only_before}, only after {self.only_after}"
        parts = [super().table(), pairs]
        if self.pruning is not None:
            parts.append(self.pruning.table())
        return "\n\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        right = {"both": self.both, "only_before": self.only_before, "only_after": self.only_after}
        return {**super().to_dict(), "right": right, "pruning": self.pruning.to_dict() if self.pruning else None}


@dataclass(frozen=True)
class _Parent:
    name: str
    arch: str
    model: nn.Module
    options: Mapping[str, Value]
    sha256: str
    terms: str


def reprune(
    name: str,
    *,
    eps: float | None = None,
    budget: Budget | None = None,
    method: str = "combined",
    repair: Repair | None = None,
    weights: Path | None = None,
    images: int | None = None,
    finetune_epochs: int = 0,
    finetune_distil: float = 0.0,
    half: bool = False,
    groups: str | None = None,
    leave: str | None = None,
    search: Search | None = None,
    memory: float | None = None,
    seed: int = 0,
    run: Run | None = None,
    **given: Any,
) -> Repruned:
    """Prune an entry, or a network with the weights of a file, and save the result as a new entry.

    The samples to prune on, 128 clouds or 256 images unless `images` says otherwise, are drawn from the training
    split by the seed, without augmentation. Both networks are evaluated on the test split and timed side by side.
    `groups` and `leave` (names with commas between: which to prune, which not), `budget`, `repair`, `search` and
    `memory` (in GiB) are those of `zoo.prune.prune`; the goal is eps or a budget. With `half` the weights are stored in
    half precision where that changes no decision (`zoo.half_precision`).
    `given` are fields of `Data` (dataset, data_dir, points, size, mean, std) that take the place of the card's.

    The new entry is called `<arch>-pruned-<w>x.<dataset>` unless `run` names it: it costs no more MACs than the
    dense network with width multiplier w. A run that was killed goes on, when the same arguments come again, at
    the last group that was finished or in the epoch of fine-tuning that it had reached.

    Raises ZooError for an unknown entry or method, eps below 0 or not a number, data or weights that do not fit,
    NaN in the data, an absent device, a name that another entry has, and files that cannot be written.
    """
    run, search, tuning = run or Run(), search or Search(), _Tuning(finetune_epochs, finetune_distil)
    repair = _checked(eps, budget, method, repair, search, images, tuning)
    check_seed(seed)
    cache_bytes = Runtime().cache_bytes if memory is None else _bytes(memory)
    device = choose_device(run.device)
    data, parent, train_set = _parent(name, weights, given, device)
    test_set, held = data.load("test"), held_for_halving(data) if half else None
    inputs, labels = draw(train_set, images, seed)
    if tuning.epochs:
        check_log(run.log)
    options: dict[str, Value] = {
        "eps": eps,
        **budget_options(budget),
        "method": method,
        **repair_options(method, repair),
        **data.options(train_set),
        "weights": weights.name if weights else None,
        "images": len(labels),
        **tuning.options(),
        "groups": groups,
        "leave": leave,
        **_search_options(search),
        "seed": seed,
    }
    last: dict[str, Value] = {"half": half or None, "name": run.name}
    command = command_line("reprune", name if weights else parent.name, {**options, **last})
    check_out(run.out)
    if run.name == parent.name:
        raise ZooError(f"{run.name} would be its own parent: give this one another name with --name")
    if run.name is not None:
        check_name(run.name, command, run.out, overwrite=run.overwrite)
    identity = {"parent": parent.name, "sha256": parent.sha256, **options, "device": device.type}
    with run_folder("reprune", identity, resume=run.resume) as folder:
        before = measure(parent.model, test_set, workers=run.workers, progress=run.progress)
        pruned, pruning = prune(
            parent.model,
            (inputs.to(device), labels.to(device)),
            eps=eps,
            budget=budget,
            method=method,
            options=Options(search=search, repair=repair),
            groups=_groups(parent.model, groups, leave),
            seed=seed,
            runtime=Runtime(
                cache_bytes=cache_bytes,
                resume_file=folder / "prune.json",
                cache_file=store.home() / "known" / f"{_identity({**identity, **dict.fromkeys(GOALS)})}.json",
                progress=run.progress and distributed.rank() == 0,
            ),
        )
        new = run.name or _name(parent, pruned, train_set, data.dataset)
        overwrite = check_name(new, command, run.out, overwrite=run.overwrite)
        noted: dict[str, Value] = {"command": command, **options, "eps": pruning.eps, "half": half or None}
        noted["parent_sha256"] = parent.sha256
        if tuning.epochs:
            recipe = tuning.recipe(parent.arch, data.dataset)
            noted |= {key: value for key, value in vars(recipe).items() if key != "epochs"}
            teacher = parent.model if tuning.distil else None
            _finetune(pruned, data, test_set, recipe, teacher, seed, folder / "finetune.pt", run)
        float16 = halved(pruned, held, run)
        after = measure(pruned, test_set, workers=run.workers, progress=run.progress)

        def card() -> Card:
            return make_card(
                new,
                pruned,
                after,
                test_set,
                arch=parent.arch,
                data=data,
                recipe={**noted, "device": device.type, "torch": torch.__version__},
                options=parent.options,
                parent=parent.name,
                parent_terms=parent.terms,
                parent_measured=before,
                forward=(time_beside(parent.model, pruned, test_set, device),),
            )

        saved = save(pruned, card, run.out, overwrite=overwrite, float16=float16)
        return Repruned(saved, before, pruning, *_paired(before, after))


@dataclass(frozen=True)
class _Tuning:
    """The fine-tuning after the pruning; none with 0 epochs."""

    epochs: int
    distil: float

    def options(self) -> dict[str, Value]:
        return {"finetune_epochs": self.epochs, "finetune_distil": self.distil or None}

    def recipe(self, arch: str, dataset: str) -> Recipe:
        return replace(recipe_for("finetune", arch, dataset), epochs=self.epochs, distil=self.distil)


def _checked(
    eps: float | None, budget: Budget | None, method: str, repair: Repair | None, search: Search, images: int | None,
    tuning: _Tuning,
) -> Repair:  # fmt: skip
    """Refuse, before what takes long, what cannot be done; the repair that is meant."""
    if (eps is None) == (budget is None):
        raise ZooError("say how far to prune: --eps 0.02, or one target such as --target-macs 0.78")
    if eps is not None and not (math.isfinite(eps) and eps >= 0):
        raise ZooError(f"eps is {eps}: it must be a number from 0 up, for instance 0.02")
    get_method(method)
    if tuning.distil and not tuning.epochs:
        raise ZooError("--finetune-distil is a part of the fine-tuning's loss: ask for --finetune-epochs as well")
    if images is not None and images < 1:
        raise ZooError(f"{images} samples are too few to prune on: give 1 or more")
    return resolve_config(method, Options(search=search, repair=repair), budget).repair


def _bytes(gibibytes: float) -> int:
    if not (math.isfinite(gibibytes) and gibibytes >= 0):
        raise ZooError(f"--memory is {gibibytes}: give GiB, a number from 0 up")
    return int(gibibytes * 2**30)


def _finetune(
    pruned: nn.Module, data: Data, test_set: LabelledDataset, recipe: Recipe, teacher: nn.Module | None, seed: int,
    checkpoint: Path, run: Run,
) -> None:  # fmt: skip
    """Fine-tune in place; `test_set` is looked at only where it is the part that is held out for choices."""
    validation = test_set if data.validation else None
    train(
        pruned, data.load("train", augment=True), recipe, seed=seed, checkpoint=checkpoint, log=run.log,
        workers=run.workers, progress=run.progress, teacher=teacher, validation=validation,
    )  # fmt: skip


def _groups(model: nn.Module, groups: str | None, leave: str | None) -> list[str] | None:
    """The names to prune, or None for all."""
    if groups is None and leave is None:
        return None
    known = [group.name for group in groups_of(model)]
    chosen, left = ([name.strip() for name in names.split(",")] if names else [] for names in (groups, leave))
    for name in left:
        if name not in known:
            raise ZooError(f"there is no neuron group {name!r} to leave: {suggest(name, known)}")
    return [name for name in chosen or known if name not in left]


def _identity(settings: Mapping[str, Any]) -> str:
    """A short name for a set of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _search_options(search: Search) -> dict[str, Value]:
    """What a command line has to say to get these settings; defaults go without saying."""
    old = {new: old for old, new in SEARCH_ALIASES.items()}
    changed = {old[key]: value for key, value in asdict(search).items() if value != getattr(Search(), key)}
    settle = changed.pop("settle", True)
    return {**changed, "no_settle": None if settle else True}


def _parent(
    name: str, weights: Path | None, given: dict[str, Any], device: torch.device
) -> tuple[Data, _Parent, LabelledDataset]:
    """What is pruned, and its training split as it is: an entry, or a network with the weights of a file."""
    if weights is None:
        path, card = store.fetch(name)
        data = Data.of(card, **given)
        train_set = data.load("train")
        warn_of_seen(card, data)
        same_classes(card.name, card.num_classes, data.dataset, train_set.num_classes)
        model = checkpoint.load(path, device=device)
        parent = _Parent(card.name, card.arch, model, card.options, card.saved.sha256, card.licences.weights)
        return data, parent, train_set
    if name not in models.ARCHS:
        raise ZooError(f"with weights from a file, the name is that of a network: {suggest(name, models.ARCHS)}")
    if given.get("dataset") is None:
        raise ZooError("with weights from a file, say which data set they were trained on: --dataset NAME")
    state = read_weights(weights, name)
    data = Data(**{key: value for key, value in given.items() if value is not None})
    train_set = data.load("train")
    model = models.build(name, num_classes=train_set.num_classes)
    checkpoint.load_weights(model, state, source=str(weights))
    parent = _Parent(f"{name}.{data.dataset}", name, model.to(device).eval(), {}, sha256_of(weights), UNKNOWN)
    return data, parent, train_set


def draw(train_set: LabelledDataset, images: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (M, ...) and labels (M,) of M samples of the training split, on the CPU, drawn by the seed."""
    total = len(train_set)
    if images is not None and images > total:
        raise ZooError(f"{images} samples to prune on were asked for, but the training split has {total}")
    usual = PRUNING_SAMPLES["images" if len(train_set.sample_shape) == 3 else "points"]
    wanted = images or min(total, usual)
    drawn = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:wanted].tolist()
    order = [[drawn[i] for i in batch] for batch in batch_indices(wanted, 64)]
    parts = list(batches(train_set, order, device=torch.device("cpu")))
    return torch.cat([inputs for inputs, _ in parts]), torch.cat([labels for _, labels in parts])


def _name(parent: _Parent, pruned: nn.Module, train_set: LabelledDataset, dataset: str) -> str:
    """`<arch>-pruned-<w>x.<dataset>`, w the smallest in steps of 0.01 whose dense network has at least as many MACs."""
    shape = train_set.sample_shape
    macs = count(pruned, shape).macs

    def dense(hundredths: int) -> int:
        form: dict[str, Any] = {"num_classes": train_set.num_classes, **parent.options}
        widths = models.scaled_widths(parent.arch, hundredths / 100, **form)
        return count(models.build(parent.arch, widths=widths, **form), shape).macs

    low, high = 1, 100
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if dense(middle) >= macs else (middle + 1, high)
    return f"{parent.arch}-pruned-{low / 100:g}x.{dataset}"


def _paired(before: Measured, after: Measured) -> tuple[int, int, int]:
    """Samples right in both networks, only in the first, only in the second."""
    a, b = before.evaluation.hits, after.evaluation.hits
    return int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum())
