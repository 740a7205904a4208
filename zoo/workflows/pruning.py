"""`zoo reprune`: prune an entry, fine-tune it if asked for, measure it beside its parent, and save it."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo import checkpoint, distributed, models, store
from zoo.cards import UNKNOWN, Value
from zoo.convert import read_weights
from zoo.datasets import LabelledDataset, dataset_info
from zoo.errors import ZooError
from zoo.evaluate import batch_indices, batches, count
from zoo.file_entry import load_entry, typed_name
from zoo.models import groups_of
from zoo.prune import (
    Options,
    PruneReport,
    Runtime,
    default_method,
    default_repair,
    distil,
    prune,
    resolve_config,
)
from zoo.train import check_log
from zoo.utils import say, settings_of, sha256_of
from zoo.workflows.checks import check_groups, check_reprune
from zoo.workflows.command_words import TARGETS, command_line, settings_on_card
from zoo.workflows.data_spec import DataSpec, Splits, check_classes, warn_if_trained_on_validation
from zoo.workflows.earlier_evaluation import measure_or_reuse
from zoo.workflows.measurement import Measurement
from zoo.workflows.plan import Plan
from zoo.workflows.prune_spec import PruneSpec, WeightsFile
from zoo.workflows.recipes import RECOVERY_PASSES, RECOVERY_SAMPLES, Finetune
from zoo.workflows.run import RunOptions, check_name, check_output_dir, choose_device, run_folder
from zoo.workflows.save import EntryDraft, EntryResult, Parent, finish_entry
from zoo.workflows.training import run_training

_LOG = logging.getLogger("zoo")
# Settings on a card that say how far to prune. What an earlier run with other values of these measured is used again.
_GOALS = (
    "eps", *TARGETS, "round_to", "min_width", "groups", "leave", "finetune_epochs", "recalibrate", "distil_epochs",
    "recovery", "holdout",
)  # fmt: skip


# Chosen by the divergence on training clouds that took no part (dgcnn.shapes, 0.040 nats before): one pass over 1024
# clouds in batches of 32 lowers it to 0.025, of 8 to 0.023, and three over 512, at the same cost, to 0.020.
RECOVERY_RATE = 3e-4
RECOVERY_BATCH = 8


@dataclass(frozen=True)
class PruningResult(EntryResult):
    """A saved entry, its parent's measurement, and the report of the pruning, group by group; `recovery` is the mean
    distillation loss of each pass of the recovery, none without one."""

    pruning: PruneReport | None = None
    recovery: tuple[float, ...] = ()

    @property
    def right(self) -> dict[str, int]:
        """The number of samples right in both networks, only before pruning, and only after."""
        assert self.parent is not None  # a pruned network has one
        before, after = self.parent.evaluation.hits, self.measurement.evaluation.hits
        pairs = {"both": before & after, "only_before": before & ~after, "only_after": ~before & after}
        return {name: int(hits.sum()) for name, hits in pairs.items()}

    @property
    def difference(self) -> tuple[float, float, float]:
        """By how many points the accuracy changed, with its 95 % interval from the samples that changed (paired)."""
        lost, gained = self.right["only_before"], self.right["only_after"]
        total = self.measurement.evaluation.total
        change = (gained - lost) / total
        margin = 1.96 * math.sqrt((gained + lost) / total - change**2) / math.sqrt(total)
        return 100 * change, 100 * (change - margin), 100 * (change + margin)

    def table(self) -> str:
        right, (change, low, high) = self.right, self.difference
        clear = "" if high < 0 or low > 0 else ", not clear"
        pairs = (
            f"right in both {right['both']}, only before {right['only_before']}, only after {right['only_after']}: "
            f"{change:+.1f} points (95 % {low:+.1f} to {high:+.1f}{clear})"
        )
        parts = [super().table(), pairs, *([self.pruning.table()] if self.pruning else [])]
        if self.recovery:
            passes = ", ".join(f"{value:.4f}" for value in self.recovery)
            parts.append(f"recovery: distillation loss of each pass {passes}")
        return "\n\n".join(parts)

    def _more_commands(self, name: str) -> list[str]:
        parent, recipe = self.card.parent, self.card.recipe
        goals = [f"zoo reprune {parent} --target-macs 0.15", f"zoo finetune {name} --epochs 5 --distil 0.5"]
        if isinstance(recipe.get("eps"), float):
            goals.insert(0, f"zoo reprune {parent} --eps {5 * float(recipe['eps']):g}")  # type: ignore[arg-type]
        words = ["smaller:", "or:", "better:"] if len(goals) == 3 else ["smaller:", "better:"]
        return [f"       {word:<9}{goal}{self._data_option}" for word, goal in zip(words, goals, strict=True)]

    @property
    def _data_option(self) -> str:
        """What a command on an entry of the user's own folder needs as well."""
        folder = self.card.recipe.get("data_dir")
        return "" if folder is None else f" --data-dir {shlex.quote(str(folder))}"

    def _clearly_worse(self) -> str | None:
        text = super()._clearly_worse()
        if text is None:
            return None
        more = 2 * int(self.card.recipe["images"])  # type: ignore[arg-type]
        return (
            f"{text}\nTry a smaller --eps or a larger target, more samples (--samples {more}), a longer recovery "
            f"(--recovery {4 * RECOVERY_SAMPLES}), or fine-tuning: "
            f"zoo finetune {self.typed} --epochs 5 --distil 0.5{self._data_option}"
        )

    def to_dict(self) -> dict[str, Any]:
        pruning = self.pruning.to_dict() if self.pruning else None
        return {**super().to_dict(), "right": self.right, "pruning": pruning, "recovery": list(self.recovery)}


def reprune(
    entry: str | WeightsFile,
    spec: PruneSpec,
    *,
    finetune: Finetune | None = None,
    data: DataSpec | None = None,
    run: RunOptions | None = None,
) -> PruningResult:
    """Prune an entry, or a network with the weights of a file, and save the result as a new entry.

    entry     its name, or the path of a checkpoint
    spec      how far to prune, and how
    finetune  the training after the cut; None is a short recovery (`Finetune`)
    data      fields that take the place of the entry's own

    Both networks are evaluated on the test split and timed side by side. The new entry is called
    `<arch>-pruned-<m>m.<dataset>` unless `run` names it: it has m of the MACs of the network at full width. Where
    another entry has that name a number follows it, so that a finished network is always saved. A run that was killed
    continues, when it is started again with the same arguments, at the last group that was finished or in the epoch of
    fine-tuning that it had reached.

    Raises ZooError for an unknown entry or method, settings or data or weights that do not fit, NaN in the data, an
    absent device, a name that another entry has, and files that cannot be written.
    """
    run, finetune, data = run or RunOptions(), finetune or Finetune(), data or DataSpec()
    config = resolve_config(spec.method or default_method(spec.options.search), spec.options, spec.budget)
    check_reprune(entry, spec, finetune=finetune, data=data, run=run)
    device = choose_device(run.device)
    parent, splits = _load_parent(entry, data, run, device)
    groups = check_groups(parent.name, (group.name for group in groups_of(parent.model)), spec.groups, spec.exclude)
    images = spec.samples or min(len(splits.train), dataset_info(splits.spec.dataset).pruning_samples)
    samples = draw(splits.train, images, spec.seed)
    recovery = finetune.recovery_samples(spec.options.search, len(splits.train))
    spec = replace(spec, method=config.name, options=replace(spec.options, repair=config.repair), samples=images)
    finetune = replace(finetune, recovery=recovery)
    if finetune.epochs:
        check_log(run.log)
    settings = _settings_on_card(entry, spec, finetune, splits)
    stored: dict[str, Value] = {"half": run.fp16_weights or None}
    argument = entry.arch if isinstance(entry, WeightsFile) else parent.typed or parent.name
    command = command_line("reprune", argument, {**settings, **stored, "name": run.name})
    check_output_dir(run)
    if run.name is not None:
        check_name(run.name, command, run, parent=parent.name)
    identity = {"parent": parent.name, "sha256": parent.sha256, **settings, "device": device.type}
    identity |= splits.spec.identity()
    progress = run.progress and distributed.rank() == 0
    with run_folder("reprune", identity, resume=run.resume) as folder:
        before, seconds = _measure_parent(parent, splits, device, run)
        if progress:
            plan = Plan(parent, splits, before, seconds, config, spec, images, recovery, finetune, run)
            say(plan.text(groups))
        cache_file = _cache_file({**identity, **dict.fromkeys(_GOALS)})
        runtime = Runtime(resume_file=folder / "prune.json", cache_file=cache_file, progress=progress)
        if run.memory is not None:
            runtime = replace(runtime, cache_bytes=int(run.memory * 2**30))
        pruned, report = prune(
            parent.model, samples, eps=spec.eps, budget=spec.budget, method=spec.method, options=spec.options,
            groups=groups, seed=spec.seed, runtime=runtime,
        )  # fmt: skip
        losses: tuple[float, ...] = ()
        if recovery:
            losses = recover(pruned, parent.model, splits.train, images, recovery, seed=spec.seed, progress=progress)
        recipe = {"command": command, **settings, "eps": report.eps, **stored, "parent_sha256": parent.sha256}
        if finetune.epochs:
            recipe |= _finetune(pruned, parent, splits, finetune, folder / "finetune.pt", seed=spec.seed, run=run)
        name = run.name or _default_name(parent, pruned, splits)
        draft = EntryDraft(name, parent.arch, recipe, parent.options, parent, before)
        return PruningResult(**vars(finish_entry(pruned, draft, splits, run, device)), pruning=report, recovery=losses)


def _measure_parent(
    parent: Parent, splits: Splits, device: torch.device, run: RunOptions
) -> tuple[Measurement, float]:
    """What the parent gets right, counted now or by an earlier run, and the seconds that one sample took."""
    evaluated = {
        "evaluated": parent.sha256, "device": device.type, "torch": torch.__version__,
        **splits.spec.recipe(splits.test), **splits.spec.identity(),
    }  # fmt: skip
    return measure_or_reuse(
        parent.model, splits.test, _cache_file(evaluated), workers=run.workers, progress=run.progress
    )


def _settings_on_card(
    entry: str | WeightsFile, spec: PruneSpec, finetune: Finetune, splits: Splits
) -> dict[str, Value]:
    """What decides which network comes out, as its card and the command on it state it; of `spec` and `finetune` no
    field that has a default of the entry's is left open."""
    assert spec.method is not None  # for the type checker
    settings: dict[str, Value] = {
        **spec.goal_on_card(),
        "method": spec.method,
        **settings_on_card(settings_of(spec.options), settings_of(Options(repair=default_repair(spec.method)))),
        **splits.spec.recipe(splits.train),
        "weights": entry.path.name if isinstance(entry, WeightsFile) else None,
        "images": spec.samples,
        "recovery": finetune.recovery,
        "finetune_epochs": finetune.epochs,
        "finetune_distil": finetune.distil or None,
        "groups": None if spec.groups is None else ",".join(spec.groups),
        "leave": None if spec.exclude is None else ",".join(spec.exclude),
        "seed": spec.seed,
    }
    settings.setdefault("no_settle", None)  # the first version's name of refine=False, still part of the identity
    return settings


def _finetune(
    pruned: nn.Module, parent: Parent, splits: Splits, finetune: Finetune, state: Path, *, seed: int, run: RunOptions
) -> dict[str, Value]:
    """Fine-tune the pruned network in place on augmented samples; the fields of its recipe as cards state them."""
    recipe = finetune.recipe(parent.arch, splits.spec.dataset)
    augmented = replace(splits, train=splits.spec.load("train", augment=True))
    teacher = parent.model if recipe.distil else None
    run_training(pruned, augmented, recipe, state, seed=seed, run=run, teacher=teacher)
    return {key: value for key, value in vars(recipe).items() if key != "epochs"}


def draw(train_set: LabelledDataset, samples: int, seed: int, *, after: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs (M, ...) and labels (M,) of M samples of the training split, on the CPU, drawn by the seed: those that
    follow the first `after` in the order that the seed gives, and those again where there are no others."""
    total = len(train_set)
    if samples > total:
        raise ZooError(f"{samples} samples to prune on were asked for, but the training split has {total}")
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed)).roll(-after)[:samples].tolist()
    parts = list(
        batches(train_set, [[order[i] for i in batch] for batch in batch_indices(samples, 64)],
                device=torch.device("cpu"))
    )  # fmt: skip
    return torch.cat([inputs for inputs, _ in parts]), torch.cat([labels for _, labels in parts])


def recover(
    pruned: nn.Module, parent: nn.Module, train_set: LabelledDataset, used: int, samples: int, *, seed: int,
    progress: bool,
) -> tuple[float, ...]:  # fmt: skip
    """Train the pruned network, in place, on training samples towards its parent's outputs; the samples are others than
    the `used` ones that it was pruned on, as far as there are others. Returns the mean loss of each pass."""
    inputs, _ = draw(train_set, samples, seed, after=used)
    inputs = inputs.to(next(pruned.parameters()).device)
    means = distil(
        pruned, parent, inputs, epochs=RECOVERY_PASSES, seed=seed, lr=RECOVERY_RATE, batch_size=RECOVERY_BATCH,
        progress=progress,
    )  # fmt: skip
    return tuple(means)


def _load_parent(
    entry: str | WeightsFile, data: DataSpec, run: RunOptions, device: torch.device
) -> tuple[Parent, Splits]:
    """The network to prune, an entry or one with the weights of a file, and its samples without augmentation."""
    if isinstance(entry, str):
        model, card = load_entry(entry, mirror=run.mirror or None, device=device)
        spec = DataSpec.of(card, data)
        splits = Splits.load(spec, holdout=run.fp16_weights)
        warn_if_trained_on_validation(card, spec)
        check_classes(card, spec, splits.train.classes)
        terms, typed = card.licences.weights, typed_name(entry, card)
        return Parent(card.name, card.arch, model, card.options, card.saved.sha256, terms, typed), splits
    arch = entry.arch
    found = read_weights(entry.path, arch)
    if found.remark and distributed.rank() == 0:
        _LOG.warning("%s: %s", entry.path, found.remark)
    splits = Splits.load(data, holdout=run.fp16_weights)
    model = models.create_model(arch, num_classes=splits.train.num_classes)
    checkpoint.load_weights(model, found.state, source=str(entry.path))
    name = f"{arch}.{data.suffix}"
    return Parent(name, arch, model.to(device).eval(), {}, sha256_of(entry.path), UNKNOWN), splits


def _cache_file(settings: Mapping[str, Any]) -> Path:
    """The file that keeps what other goals with the same settings can use again."""
    key = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return store.home() / "known" / f"{key}.json"


def _default_name(parent: Parent, pruned: nn.Module, splits: Splits) -> str:
    """`<arch>-pruned-<m>m.<dataset>`, m the fraction of the MACs of the network at full width, rounded up."""
    shape = splits.train.sample_shape
    form: dict[str, Any] = {"num_classes": splits.train.num_classes, **parent.options}
    full = models.create_model(parent.arch, **form)
    share = math.ceil(100 * count(pruned, shape).macs / count(full, shape).macs) / 100
    return f"{parent.arch}-pruned-{share:g}m.{splits.spec.suffix}"
