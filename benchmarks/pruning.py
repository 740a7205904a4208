"""Methods at one eps, or at equal widths: seconds, memory, and how good the network is, beside Torch-Pruning.

    python benchmarks/pruning.py mobilenet_v2 --weights FILE --data DIR --methods local,combined,tp-magnitude,tp-taylor
    python benchmarks/pruning.py mobilenet_v2 --weights FILE --data DIR --methods dense,combined,local,global,gfs,l1
        --images 128 -O batch_size=32 -O search.gradient_reuse=0.25 --out results.jsonl [--equal]

The pruning images are drawn from the training split by seed 0, and the network is evaluated on the test split without
fine-tuning. Each run is a process of its own, so that its peak memory is its own, and its seconds are those of pruning
alone, with the images in memory. With --equal every method gets the widths that the combined method found at that eps,
so that only the choice of neurons differs. The methods tp-magnitude and tp-taylor are Torch-Pruning (pip install
torch-pruning) with its defaults: the same fraction of every layer, with as many MACs as the first of our methods left;
their seconds are those of pruning at that fraction. One line of JSON is written to --out per run as soon as it is done;
a run that has a line there is not computed again.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
from experiment import EXACT, Task, add_result, read_results, run_alone, task_options
from torch_pruning_baseline import prune_at_ratio, ratio_for_macs

from zoo.prune import Options, Runtime, prune
from zoo.utils import keep_freed_memory, parse_setting, setting_types, with_settings

THEIRS = "tp-"  # begins the names of Torch-Pruning's importances


def run_once(task: Task, method: str, goal: dict[str, Any], options: Options, journal: Path | None) -> dict[str, Any]:
    """The result of pruning the network once, to an eps, to widths or, with Torch-Pruning, to a number of MACs."""
    keep_freed_memory()
    model, (x, y) = task.network(), task.samples()
    small, report, started = model, {}, time.perf_counter()
    if method.startswith(THEIRS):
        importance = method.removeprefix(THEIRS)
        ratio = ratio_for_macs(model, importance, goal["macs"], x, y)
        started = time.perf_counter()
        small, report = prune_at_ratio(model, importance, ratio, x, y), {"ratio": ratio}
    elif method != "dense":
        runtime = Runtime(resume_file=journal)
        small, pruned = prune(model, (x, y), method=method, options=options, runtime=runtime, **goal)
        report = pruned.to_dict()
    return {"method": method, "seconds": time.perf_counter() - started, **task.judged(small), "report": report}


@click.command()
@task_options
@click.option("--eps", default=0.02, show_default=True)
@click.option("-O", "settings", multiple=True, metavar="NAME=VALUE", help="As of zoo reprune.")
@click.option("--methods", default="local,combined", show_default=True)
@click.option("--equal", is_flag=True, help="At the widths of the combined method's line in --out instead of at eps.")
@click.option("--out", type=click.Path(path_type=Path), help="Append each run as a line of JSON.")
@click.option("--alone", hidden=True, help="The method that this process runs.")
@click.option("--macs", default=0.0, hidden=True)
def main(
    task: Task, eps: float, settings: tuple[str, ...], methods: str, equal: bool, out: Path | None, alone: str | None,
    macs: float,
) -> None:  # fmt: skip
    def key(method: str, equal: bool = equal) -> str:
        return " ".join([task.arch, method, "equal" if equal else f"{eps:g}", *settings])

    known = {row["key"]: row for row in read_results(out)}
    if alone is not None:
        goal: dict[str, Any] = {"macs": macs} if alone.startswith(THEIRS) else {"eps": eps}
        if equal:
            goal = {"widths": known[key("combined", False)]["widths"]}
        parsed = dict(parse_setting(word, setting_types(Options)) for word in settings)
        journal = out and out.with_suffix(f".{key(alone).replace(' ', '-')}.journal")
        click.echo(json.dumps(run_once(task, alone, goal, with_settings(Options(search=EXACT), parsed), journal)))
        return
    for method in methods.split(","):
        if method.startswith(THEIRS) and not macs:
            raise click.UsageError("Torch-Pruning's methods come after one of ours, whose MACs they get")
        row = known.get(key(method)) or {"key": key(method), **run_alone(alone=method, macs=macs)}
        if key(method) not in known:
            add_result(out, row)
        macs = macs or (0.0 if method == "dense" else row["macs"])
        click.echo(f"{key(method)}: {row['seconds']:.0f} s, peak {row['peak_bytes'] / 2**30:.2f} GiB, "
                   f"{row['macs'] / 1e6:.1f}M MACs, {row['correct']}/{row['total']} right, cross-entropy "
                   f"{row['cross_entropy']:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
