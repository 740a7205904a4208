"""The commands that need torch: parse, call one library function, print.

`zoo.cli.app` imports this file when one of them is run. Results go to standard output, progress to standard error. Those
that torchrun may start several times over work as one, and the first process prints.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from zoo.cli.completion import entry_names
from zoo.cli.params import FILE, FOLDER, PATH
from zoo.utils import MAX_SEED, keep_freed_memory

keep_freed_memory()

F = TypeVar("F", bound=Callable[..., Any])

_DATA = (
    click.option("--data-dir", type=PATH, help="The folder that holds the data set."),
    click.option("--download", is_flag=True, default=None, help="Fetch the data set if its owners publish it."),
    click.option("--points", type=int, help="Points per cloud."),
    click.option("--size", type=int, help="Side of the images in pixels."),
    click.option("--mean", type=float, nargs=3, help="Mean of the images' channels."),
    click.option("--std", type=float, nargs=3, help="Deviation of the images' channels."),
    click.option("--validation", type=float, help="Judge on this part of the training split, not on the test split."),
)
_WHERE = (
    click.option("--device", help="cpu, cuda or cuda:<number>; the first GPU if there is one."),
    click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes that load data."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
)
_ENTRY = (
    click.option("--out", type=FOLDER, help="Save here, not in your zoo."),
    click.option("--name", help="Name of the new entry."),
    click.option("--overwrite", is_flag=True, help="Replace an entry of that name."),
    click.option("--resume/--no-resume", default=True, help="Go on where the same command was stopped [default]."),
    click.option("--half", is_flag=True, help="Float16 weights where no decision on validation data [0.1] changes."),
    click.option("--log", type=FILE, help="Log each epoch as a line of JSON."),
    click.option("--seed", type=click.IntRange(0, MAX_SEED), default=0, show_default=True),
)
_RECIPE = (
    click.option("--recipe", type=FILE, help="Recipe file [the network's own]."),
    click.option("--epochs", type=int, help="The network's recipe says how many otherwise."),
    click.option("--lr", type=float, help="Highest learning rate."),
    click.option("--batch-size", type=int),
    click.option("--accumulate", type=int, help="Parts that a batch runs in, where a whole one does not fit [1]."),
    click.option("--average", type=float, help="Exponential average of the weights, e.g. 0.999 [recipe]."),
    click.option("--precision", help="float32, bfloat16 or float16 in products; weights stay float32 [float32]."),
)
_CHANGES = "epochs lr batch_size accumulate average precision"


def _options(*groups: tuple[Callable[[Any], Any], ...]) -> Callable[[F], F]:
    def add(function: F) -> F:
        for option in reversed([option for group in groups for option in group]):
            function = option(function)
        return function

    return add


def _together(command: F) -> F:
    """Run a command as one of the processes that torchrun started, if it did."""

    @functools.wraps(command)
    def run(*args: Any, **given: Any) -> Any:
        from zoo import distributed

        with distributed.process_group():
            return command(*args, **given)

    return run  # type: ignore[return-value]


@click.command()
@click.argument("arch")
@click.option("--dataset", default="shapes", show_default=True)
@click.option("--width", type=float, default=1.0, help="Width multiplier of the dense network.")
@_options(_RECIPE, _DATA, _ENTRY, _WHERE)
@_together
def train(arch: str, dataset: str, width: float, seed: int, as_json: bool, **given: Any) -> None:
    """Train the network ARCH and add it to your zoo.

    The weights after the last epoch are the result; the test split is looked at once, at the end. A run that was
    stopped or killed goes on when the same command is given again.
    """
    from zoo.workflows import Data, train_entry

    data = Data(dataset=dataset, **_take(given, "data_dir download points size mean std validation"))
    changes = _take(given, _CHANGES)
    more = _take(given, "recipe half")
    _print(train_entry(arch, data, changes=changes, width=width, seed=seed, run=_run(given), **more), as_json)


@click.command()
@click.argument("entry", metavar="NAME", shell_complete=entry_names)
@click.option("--dataset", help="The entry's own otherwise.")
@click.option("--distil", type=float, help="Part of the loss that is the divergence from the parent [0].")
@_options(_RECIPE, _DATA, _ENTRY, _WHERE)
@_together
def finetune(entry: str, dataset: str | None, seed: int, as_json: bool, **given: Any) -> None:
    """Train the entry NAME further and add the result to your zoo.

    The result is compared with the entry's parent, for a pruned network the one that it was pruned from; with --distil
    it learns from that one's outputs as well.
    """
    from zoo.workflows import finetune_entry

    changes, run = _take(given, f"{_CHANGES} distil"), _run(given)
    more = _take(given, "data_dir download points size mean std validation recipe half")
    _print(finetune_entry(entry, changes=changes, seed=seed, run=run, dataset=dataset, **more), as_json)


@click.command()
@click.argument("entry", metavar="NAME", shell_complete=entry_names)
@click.option("--eps", type=float, help="How much cross-entropy each layer may lose; or one of the targets.")
@click.option("--target-macs", type=float, help="MACs of the result: a part (0.78), or a number above 1.")
@click.option("--target-params", type=float, help="Parameters of the result, likewise.")
@click.option("--target-ms", type=float, help="Milliseconds that 8 samples (on a GPU 32) take here, likewise.")
@click.option("--round-to", type=click.IntRange(1), help="With a target: widths are multiples of this [1].")
@click.option("--min-width", type=click.IntRange(1), help="With a target: each group keeps so many at least [1].")
@click.option("--method", help="How neurons are chosen [combined; with a target: repaired].")
@click.option("--repair/--no-repair", default=None, help="Solve readers anew for what is kept [method repaired: yes].")
@click.option("--direction", help="Search of method repaired: backward or forward [backward].")
@click.option("--exchanges/--no-exchanges", default=None, help="Better its choice by exchanging neurons [exchanges].")
@click.option("--weighting", help="output: errors count by what they do downstream; or none [method repaired: output].")
@click.option("--discrimination", type=float, help="Part of that weighting that is from the true labels [0].")
@click.option("--recalibrate", is_flag=True, default=None, help="At the end, batch-norm statistics from the samples.")
@click.option("--distil-epochs", type=click.IntRange(0), help="At the end, epochs towards the parent, no labels [0].")
@click.option("--dataset", help="The entry's own otherwise.")
@click.option("--weights", type=FILE, help="Weights of the network NAME.")
@click.option("--images", type=int, help="Training samples to prune on [128 clouds or 256 images].")
@click.option("--finetune-epochs", type=click.IntRange(0), default=0, show_default=True)
@click.option("--finetune-distil", type=float, default=0.0, help="In that, the part of the loss from the parent [0].")
@click.option("--groups", help="Names of the groups to prune, with commas between; all unless given.")
@click.option("--leave", help="Names of groups to leave whole.")
@click.option("--exact-until", type=int, help="Global search: try every neuron up to so many [0; the paper: 25].")
@click.option("--candidates", type=int, help="Global search: then try so many exactly [5].")
@click.option("--refresh", type=float, help="Global search: how long a gradient serves [0.5; the paper: 0].")
@click.option("--settle/--no-settle", default=None, help="Let a choice's weights converge [settle; paper: no-settle].")
@click.option("--slack", type=float, help="End a group's search at a gap from (1 - slack) eps to eps [0].")
@click.option("--positions", type=float, help="Part of a k x k convolution's positions in the statistics [1].")
@click.option("--look-precision", help="What pruning takes products in: float32 or bfloat16 [float32].")
@click.option("--memory", type=click.FloatRange(0), help="GiB for what is kept in front of a layer [4].")
@_options(_DATA, _ENTRY, _WHERE)
@_together
def reprune(entry: str, dataset: str | None, seed: int, as_json: bool, **given: Any) -> None:
    """Prune the entry NAME again, to a tolerance or a target, measure it beside its parent, and add it to your zoo."""
    from zoo.prune import SEARCH_ALIASES, Search
    from zoo.workflows import budget_of, repair_of
    from zoo.workflows import reprune as library

    settings = _take(given, " ".join(SEARCH_ALIASES))
    search = Search(**{SEARCH_ALIASES[name]: value for name, value in settings.items()})
    budget = budget_of(**_take(given, "target_macs target_params target_ms round_to min_width"))
    method = given.pop("method") or ("combined" if budget is None else "repaired")
    changes = _take(given, "direction exchanges weighting discrimination recalibrate distil_epochs")
    repair = repair_of(method, given.pop("repair"), changes)
    run = _run(given)
    result = library(
        entry, method=method, budget=budget, repair=repair, seed=seed, search=search, run=run, dataset=dataset, **given
    )
    _print(result, as_json)


@click.command("eval")
@click.argument("entry", metavar="NAME", shell_complete=entry_names)
@click.option("--dataset", help="The entry's own otherwise.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True)
@_options(_DATA, _WHERE)
@_together
def evaluate(entry: str, dataset: str | None, as_json: bool, **given: Any) -> None:
    """Count the right answers of the entry NAME on the test split."""
    from zoo.workflows import evaluate_entry

    _print(evaluate_entry(entry, dataset=dataset, progress=True, **given), as_json)


@click.command()
@click.argument("entries", nargs=-1, required=True, metavar="NAME...", shell_complete=entry_names)
@click.option("--batch", type=click.IntRange(1), default=32, show_default=True, help="Samples per forward pass.")
@click.option("--dtype", default="float32", show_default=True, help="float32, bfloat16 or float16.")
@click.option("--mode", default="eager", show_default=True, help="eager, compiled or cuda_graph.")
@click.option("--repeats", type=click.IntRange(1), default=50, show_default=True)
@click.option("--device", help="cpu, cuda or cuda:<number>; the first GPU if there is one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def bench(entries: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Time the forward pass of entries side by side; speed-ups are against the first NAME, or its parent if alone."""
    from zoo.workflows import bench_entries

    _print(bench_entries(entries, **given), as_json)


@click.command()
@click.argument("entry", metavar="NAME", shell_complete=entry_names)
@click.option("--format", required=True, help="onnx, torch.export or torchscript.")
@click.option("-o", "--out", type=PATH, help="The file [NAME and .onnx, .pt2, .torchscript.pt].")
@click.option("--overwrite", is_flag=True, help="Replace a file of that name.")
@click.option("--mirror", multiple=True, help="Folder, bundle, file://, http(s)://, hf://; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def export(entry: str, mirror: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Write the network of the entry NAME for other runtimes, for batches of any size.

    The file gets its name after it was loaded again and gave the network's logits. ONNX needs
    pip install 'pruned-zoo[export]'.
    """
    from zoo.export import export as library

    _print(library(entry, mirror=mirror or None, **given), as_json)


@click.command()
@click.argument("source", type=PATH, metavar="FILE")
@click.option("--arch", required=True, help="Which network the weights are of: dgcnn, resnet34...")
@click.option("-o", "--out", type=PATH, required=True, help="The checkpoint, OUT.safetensors.")
@click.option("--num-classes", type=int, help="The rows of the last layer otherwise.")
@click.option("--overwrite", is_flag=True, help="Replace a file of that name.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def convert(source: Path, as_json: bool, **given: Any) -> None:
    """Turn the weights in FILE (.pt, .pth, .safetensors) into one of the zoo's checkpoints.

    Nothing in FILE runs. Classes and widths are read off the shapes; every tensor must fit.
    """
    from zoo.convert import convert as library

    _print(library(source, **given), as_json)


def _take(given: dict[str, Any], words: str) -> dict[str, Any]:
    """Take these options out of the given ones, without those that were not typed."""
    taken = {word: given.pop(word) for word in words.split()}
    return {word: value for word, value in taken.items() if value is not None}


def _run(given: dict[str, Any]) -> Any:
    from zoo.workflows import Run

    return Run(progress=True, **_take(given, "device out name overwrite resume workers log"))


def _print(result: Any, as_json: bool) -> None:
    from zoo import distributed

    if distributed.rank() > 0:
        return
    click.echo(json.dumps(result.to_dict(), indent=2) if as_json else result.table())
