"""Pruning a whole network, group by group from input to output (Ye, Wu, Liu 2020, section 2.4, algorithms 1 and 2)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from zoo.errors import ZooError, suggest
from zoo.models.groups import NeuronGroup, groups_of, stages_of
from zoo.prune.chain import Chain
from zoo.prune.criteria import l1_norm
from zoo.prune.cut import cut
from zoo.prune.discrepancy import DISCREPANCIES, Target
from zoo.prune.gates import Gates
from zoo.prune.journal import Journal, fingerprint
from zoo.prune.layer import Layer
from zoo.prune.local import discrepancy, forward_selection, local_imitation, settled
from zoo.prune.network import global_imitation
from zoo.prune.paths import Path
from zoo.prune.report import GroupReport, PruneReport
from zoo.prune.search import Search
from zoo.prune.uniform import uniform_widths

METHODS = ("combined", "global", "gfs", "l1", "local", "uniform")
MEMORY = 4 * 2**30  # bytes
CPU_BATCH = 32
Model = TypeVar("Model", bound=nn.Module)


def prune(
    model: Model,
    data: tuple[Tensor, Tensor | None],
    *,
    eps: float | None = None,
    widths: Mapping[str, int] | None = None,
    method: str = "combined",
    discrepancy: str = "cross_entropy",
    batch_size: int = 64,
    search: Search | None = None,
    groups: Sequence[str] | None = None,
    memory: int = MEMORY,
    seed: int = 0,
    checkpoint: FilePath | str | None = None,
    progress: bool = False,
) -> tuple[Model, PruneReport]:
    """A smaller network that imitates `model`, and a report of what was done. `model` itself is not touched.

    From input to output each neuron group is pruned as far as the cross-entropy on the pruning data stays within eps
    of that of the network just before this group was pruned. With method "combined" local and global imitation both
    try, the one that keeps fewer neurons wins, and a tie goes to the smaller discrepancy. A group that cannot meet
    eps stays whole, and the report says so.

    model        offers neuron_groups(); stages() makes it faster (zoo.models.groups)
    data         inputs (M, ...) and labels (M,), on the model's device; with labels None or not integer, eps bounds
                 the discrepancy itself
    eps          tolerance in nats (section 3.2); or give `widths`
    widths       group name -> neurons to keep at most, instead of eps; groups that are not named stay whole
    method       combined, local or global imitation; the baselines gfs (greedy forward selection, equal weights,
                 local), l1 (Li et al. 2017), uniform (the same part of every group, the largest L1 norms; the whole
                 network may raise the cross-entropy by eps times the number of groups)
    discrepancy  cross_entropy or squared_error, what global imitation minimises (zoo.prune.discrepancy)
    batch_size   of a mini-batch of the global search, and of every forward at most; but on a GPU up to 16 candidates of
                 the global search share one
    search       how much work the searches may do (zoo.prune.Search); zoo.prune.PAPER is the paper's setting, hours
                 on a CPU
    groups       names of the groups to prune; the others stay whole
    memory       bytes for what is kept in front of a layer; past it stages are run again
    checkpoint   a file that holds the finished groups: a killed run, called again alike, goes on from there

    The same seed gives the same network. Raises ZooError for input that cannot be used.
    """
    inputs, labels = _checked_data(model, data)
    _check_goal(eps, widths, method, discrepancy)
    search = search or Search()
    work = copy.deepcopy(model).eval().requires_grad_(False)
    every = groups_of(work)
    chosen = _chosen(every, groups)
    wanted = _checked_widths(chosen, widths)
    settings = {
        "eps": eps, "widths": wanted, "method": method, "discrepancy": discrepancy, "batch_size": batch_size,
        "search": asdict(search), "groups": [group.name for group in chosen], "seed": seed,
    }  # fmt: skip
    journal = Journal(
        FilePath(checkpoint) if checkpoint is not None else None,
        "" if checkpoint is None else fingerprint(model, inputs, labels, settings),
    )
    # The first batches stand for all when a look ends early (Layer.gap): they must not hold one class.
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed)).to(inputs.device)
    inputs, labels = inputs[order], None if labels is None else labels[order]
    if inputs.dim() == 4:  # convolutions on images run faster so; values do not change
        work.to(memory_format=torch.channels_last)
    layout = torch.channels_last if inputs.dim() == 4 else torch.contiguous_format
    # On a CPU what runs at a time should stay in its caches.
    together = batch_size if inputs.is_cuda else min(batch_size, CPU_BATCH)
    batches = [batch.contiguous(memory_format=layout) for batch in torch.split(inputs, together)]
    report = PruneReport(method, eps, discrepancy, seed, len(inputs))
    scales: dict[str, Tensor] = {}
    with Gates(every) as gates:
        chain = Chain(stages_of(work), batches, memory=memory)
        reference = _logits(chain)
        if method == "uniform" and wanted is None:
            assert eps is not None  # for the type checker
            allowed = eps * len(chosen)
            wanted = uniform_widths(chosen, chain, gates, Target(discrepancy, reference, labels), allowed)
        bar = tqdm(chosen, "prune", disable=None if progress else True, leave=False)
        for index, group in enumerate(bar):
            bar.set_postfix_str(group.name)
            chain.advance(chain.span(group)[0])
            target = Target(discrepancy, reference, labels)
            layer = Layer(group, chain, gates, target, batch_size=batch_size)
            if index < len(journal.done):
                row, scale = journal.done[index]
            else:
                generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
                keep = None if wanted is None else wanted.get(group.name, group.size)
                row, scale = _prune_group(layer, method, eps, keep, search, generator)
                journal.add(row, scale)
            report.groups.append(row)
            if row.after < group.size or bool((scale != 1).any()):
                scales[group.name] = scale
                reference = layer.logits(scale)
                gates.set(group.name, scale)
    return cut(model, scales).eval(), report


def _prune_group(
    layer: Layer, method: str, eps: float | None, keep: int | None, search: Search, generator: torch.Generator
) -> tuple[GroupReport, Tensor]:
    """Run the method's searches on one group and choose between them (algorithm 2)."""
    started = time.perf_counter()
    group = layer.group
    whole = torch.ones(group.size, dtype=torch.float64)
    found: dict[str, Tensor | None] = {}
    uncertain: float | None = None

    def along(path: Path) -> Tensor | None:
        if keep is not None:
            return path.scale(keep)
        assert eps is not None
        return layer.meet(path, eps)

    if keep == group.size:
        method = "whole"
    if method in ("combined", "local", "global", "gfs"):
        drawn = torch.Generator().manual_seed(generator.initial_seed())
        G, uncertain = layer.gram(part=search.positions, generator=drawn)
    if method in ("combined", "local"):
        found["local"] = along(local_imitation(G, settle=search.settle))
    if method == "gfs":
        found["gfs"] = along(forward_selection(G))
    if method in ("l1", "uniform"):
        found[method] = along(l1_norm(group))
    if method in ("combined", "global"):
        first = int((group.size * G.diagonal() - 2 * G.sum(1)).argmin())  # equation (3)
        found["global"] = global_imitation(
            layer, search=search, start=first, eps=eps, neurons=keep, generator=generator,
            refine=(lambda scale: settled(G, scale)) if search.settle else None,
            error=lambda scale: float(discrepancy(G, scale / group.size)),
        )  # fmt: skip
    best, winner, gap, D = whole, "whole", 0.0, 0.0
    for name, scale in found.items():
        if scale is None or _neurons(scale) >= group.size:
            continue
        its_gap, its_D = layer.compare(scale)
        if winner == "whole" or (_neurons(scale), its_D) < (_neurons(best), D):
            best, winner, gap, D = scale, name, its_gap, its_D
    counts = {name: None if scale is None else _neurons(scale) for name, scale in found.items()}
    row = GroupReport(
        group.name, group.size, _neurons(best), winner, counts.get("local"), counts.get("global"), D, gap,
        time.perf_counter() - started, uncertain,
    )  # fmt: skip
    return row, best


def _neurons(scale: Tensor) -> int:
    return int(torch.count_nonzero(scale))


@torch.no_grad()
def _logits(chain: Chain) -> Tensor:
    logits = torch.cat([chain.rest(state) for state in chain.states()])
    if not bool(torch.isfinite(logits).all()):
        raise ZooError("The network's outputs on the pruning data are not all finite numbers: mend the weights first.")
    return logits


def _check_goal(eps: float | None, widths: Mapping[str, int] | None, method: str, discrepancy: str) -> None:
    if (eps is None) == (widths is None):
        raise ZooError("Give either eps, the tolerance, or widths, the number of neurons of each group.")
    if eps is not None and not (math.isfinite(eps) and eps >= 0):
        raise ZooError(f"eps is a tolerance of the cross-entropy, a number that is not negative; got {eps}.")
    if method not in METHODS:
        raise ZooError(f"There is no pruning method '{method}'; {suggest(method, METHODS)}.")
    if discrepancy not in DISCREPANCIES:
        raise ZooError(f"There is no discrepancy '{discrepancy}'; {suggest(discrepancy, DISCREPANCIES)}.")


def _checked_data(model: nn.Module, data: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor | None]:
    inputs, labels = data
    if len(inputs) == 0:
        raise ZooError("There are no pruning samples: give at least one.")
    if not bool(torch.isfinite(inputs).all()):
        bad = int(torch.isfinite(inputs).flatten(1).all(1).logical_not().nonzero()[0])
        raise ZooError(f"Pruning sample {bad} holds NaN or infinite values: mend or remove it.")
    if labels is not None and len(labels) != len(inputs):
        raise ZooError(f"{len(inputs)} pruning samples came with {len(labels)} labels: give one label for each.")
    device = next((parameter.device for parameter in model.parameters()), inputs.device)
    if labels is not None and labels.is_floating_point():
        labels = None
    return inputs.to(device), None if labels is None else labels.to(device)


def _chosen(every: list[NeuronGroup], names: Sequence[str] | None) -> list[NeuronGroup]:
    known = [group.name for group in every]
    for name in names or ():
        if name not in known:
            raise ZooError(f"There is no neuron group '{name}'; {suggest(name, known)}.")
    return [group for group in every if names is None or group.name in names]


def _checked_widths(chosen: list[NeuronGroup], widths: Mapping[str, int] | None) -> dict[str, int] | None:
    if widths is None:
        return None
    sizes = {group.name: group.size for group in chosen}
    for name, width in widths.items():
        if name not in sizes:
            raise ZooError(f"There is no neuron group '{name}'; {suggest(name, sizes)}.")
        if not 1 <= width <= sizes[name]:
            raise ZooError(f"Group {name} can keep 1 to {sizes[name]} neurons, not {width}.")
    return dict(widths)
