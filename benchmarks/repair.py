"""Pruned networks before any training: what the repair, its parts and baselines keep at the same MACs, paired by image.

    python benchmarks/repair.py mobilenet_v2 --images 1000 --target 0.82 --weights FILE --data DIR --out results.jsonl
    python benchmarks/repair.py dgcnn --dataset modelnet10 --target 0.5 --weights FILE --data DIR --out results.jsonl

FILE is a safetensors file that fits the network; the pruning samples are drawn from the training split by seed 0, and
only Taylor importance and combined imitation see their labels; the figures come from the test split. One line of JSON
is written per run as soon as it is done; a line that is there already is not computed again. Each run is a process of
its own, so its peak memory is its own. The table gives for every run the difference to the first one, in points, with a
95 % interval over the pairs of answers.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import click
import torch
from experiment import EXACT, Task, add_result, read_results, run_alone, task_options
from torch_pruning_baseline import IMPORTANCES, prune_at_ratio, ratio_for_macs

from zoo.cards import paired_difference_ci
from zoo.evaluate import count
from zoo.models import groups_of
from zoo.prune import PLAIN, Budget, Options, PruneReport, Repair, Runtime, prune, recalibrate
from zoo.prune.budget import macs_of
from zoo.utils import keep_freed_memory

WEIGHTED = Repair(update_weights=False)
RECALIBRATED = Repair(update_weights=False, weighting="none", recalibrate=True)
UNWEIGHTED = Repair(weighting="none")
# name: (method, repair, what decides the widths: the budget's one Lagrange multiplier ("budget"), the same fraction of
# every group ("fraction"), or one eps for all groups ("eps"))
RUNS: dict[str, tuple[str, Repair, str]] = {
    "repaired, recalibrated, distilled": ("repaired", Repair(recalibrate=True, distil_epochs=16), "budget"),
    "repaired, distilled": ("repaired", Repair(distil_epochs=16), "budget"),
    "repaired, distilled longer": ("repaired", Repair(distil_epochs=48), "budget"),
    "repaired, recalibrated": ("repaired", Repair(recalibrate=True), "budget"),
    "repaired": ("repaired", Repair(), "budget"),
    "repaired, forward": ("repaired", Repair(selection="forward"), "budget"),
    "repaired, no swaps": ("repaired", Repair(swap=False), "budget"),
    "repaired, no weighting": ("repaired", UNWEIGHTED, "budget"),
    "repaired, same part": ("repaired", Repair(), "fraction"),
    "repaired, no weighting, same part": ("repaired", UNWEIGHTED, "fraction"),
    "local + repair": ("local", Repair(), "budget"),
    "local + repair, no weighting": ("local", UNWEIGHTED, "budget"),
    "local + repair, same part": ("local", Repair(), "fraction"),
    "local + repair, no weighting, same part": ("local", UNWEIGHTED, "fraction"),
    "local, weighted": ("local", WEIGHTED, "budget"),
    "local, weighted, same part": ("local", WEIGHTED, "fraction"),
    "local": ("local", PLAIN, "budget"),
    "local, same part": ("local", PLAIN, "fraction"),
    "gfs": ("gfs", PLAIN, "budget"),
    "l1": ("l1", PLAIN, "budget"),
    "l1, recalibrated": ("l1", RECALIBRATED, "budget"),
    "l1 + repair": ("l1", UNWEIGHTED, "budget"),
    "l1, same part": ("l1", PLAIN, "fraction"),
    "l1, same part, recalibrated": ("l1", RECALIBRATED, "fraction"),
    "fpgm, same part": ("fpgm", PLAIN, "fraction"),
    "fpgm, same part, recalibrated": ("fpgm", RECALIBRATED, "fraction"),
    "taylor": ("taylor", PLAIN, "budget"),
    "taylor, recalibrated": ("taylor", RECALIBRATED, "budget"),
    "taylor + repair": ("taylor", UNWEIGHTED, "budget"),
    "local, one eps": ("local", PLAIN, "eps"),
    "combined, one eps": ("combined", PLAIN, "eps"),
}
# Torch-Pruning as it comes, and with batch norms recalibrated.
BESIDE = {
    f"torch-pruning, {kind}{', recalibrated' if again else ''}": (kind, again)
    for kind in IMPORTANCES
    for again in (False, True)
}
LABELLED = ("taylor", "combined")  # the labels of the pruning images are for these alone
OF_EPS = 256  # images for the search of one eps, which prunes several times: as many as `zoo reprune` took then
CLOSE = 0.01  # of the dense network's MACs: how near one eps has to come to the target


def uniform_widths(model: torch.nn.Module, shape: tuple[int, ...], target: float) -> dict[str, int]:
    """The widths that keep the largest fraction of every group at no more than `target` of the MACs, by bisection."""
    groups = groups_of(model)
    macs = macs_of(model, groups, shape)
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        widths = {group.name: max(1, math.floor(middle * group.size)) for group in groups}
        low, high = (middle, high) if macs(widths) <= target * macs({}) else (low, middle)
    return {group.name: max(1, math.floor(low * group.size)) for group in groups}


def at_one_eps(
    model: torch.nn.Module, data: tuple[torch.Tensor, torch.Tensor | None], method: str, target: float
) -> tuple[torch.nn.Module, PruneReport]:
    """The network pruned with the eps whose MACs are the fraction `target` of the dense network's; at most 5 trials."""
    shape = tuple(data[0].shape[1:])
    data = data[0][:OF_EPS], None if data[1] is None else data[1][:OF_EPS]
    dense, eps, low, high = count(model, shape).macs, 0.02, (0.0, 1.0), None
    for _ in range(5):
        small, report = prune(model, data, eps=eps, method=method, options=Options(search=EXACT))
        fraction = count(small, shape).macs / dense
        click.echo(f"  {method}, eps {eps:.4f}: {fraction:.3f} of the MACs", err=True)
        if abs(fraction - target) <= CLOSE:
            break
        low, high = ((eps, fraction), high) if fraction > target else (low, (eps, fraction))
        eps = 2 * eps if high is None else low[0] + (high[0] - low[0]) * (low[1] - target) / (low[1] - high[1])
    return small, report


def run_once(task: Task, name: str, target: float, known: Path) -> dict[str, object]:
    """The result of one run: prune the network once and evaluate it on the test split."""
    keep_freed_memory()
    model = task.network()
    made, row = model, {"run": name, "target": target}
    x, y = task.samples()
    shape = tuple(x.shape[1:])
    if name in BESIDE:
        kind, again = BESIDE[name]
        ratio = ratio_for_macs(model, kind, target * count(model, shape).macs, x, y)
        started = time.perf_counter()
        made = prune_at_ratio(model, kind, ratio, x, y)
        if again:
            recalibrate(made, x)
        row |= {"seconds": time.perf_counter() - started, "ratio": ratio}
    elif name != "dense":
        method, repair, how = RUNS[name]
        labels = y if method in LABELLED else None
        started = time.perf_counter()
        if how == "eps":
            made, report = at_one_eps(model, (x, labels), method, target)
        else:
            goal = {"budget": Budget(macs=target)}
            if how == "fraction":
                goal = {"widths": uniform_widths(model, shape, target)}
            runtime = Runtime(cache_bytes=3 * 2**28, cache_file=known)
            options = Options(search=EXACT, repair=repair)
            made, report = prune(model, (x, labels), method=method, options=options, runtime=runtime, **goal)
        row |= {"seconds": time.perf_counter() - started, "report": report.to_dict(), "repair": asdict(repair)}
    return {**row, **task.judged(made)}


@click.command()
@task_options
@click.option("--target", type=float, required=True, help="MACs, as a part of the dense network's.")
@click.option("--runs", default=";".join([*RUNS, *BESIDE]), help="Names with semicolons between.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--alone", hidden=True)
def main(task: Task, target: float, runs: str, out: Path, alone: str | None) -> None:
    if alone is not None:
        row = run_once(task, alone, target, out.with_suffix(f".{task.arch}.known.json"))
        add_result(out, row)
        click.echo(json.dumps(row))
        return

    def done() -> dict[str, dict[str, object]]:
        rows = read_results(out)
        return {row["run"]: row for row in rows if row["arch"] == task.arch and row["target"] in (target, 1.0)}

    for name in ["dense", *runs.split(";")]:
        if name not in done():
            run_alone(target=1.0 if name == "dense" else target, alone=name)
        row, first = done()[name], done()["dense"]
        hits = ([int(hit) for hit in str(run["hits"])] for run in (row, first))
        points, half = (100 * part for part in paired_difference_ci(*hits))
        print(f"{name:<39} {row['correct']}/{row['total']}  {points:+6.1f} +- {half:.1f}  cross-entropy "
              f"{row['cross_entropy']:.3f}  {float(str(row['macs'])) / 1e6:.1f}M  {row.get('seconds', 0):.0f} s  "
              f"{int(str(row['peak_bytes'])) / 2**30:.1f} GiB", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
