"""What can be known to be wrong with a command before torch is imported and data is read. Imports no torch.

A card says which groups, classes and samples its network has; the registries are read from the source of the packages
(`zoo.utils.decorator_calls`). A plugin is imported where a name is none of the package's own.
"""

from __future__ import annotations

import functools
import glob
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoo import store
from zoo.cards import Card, parse_name
from zoo.datasets import DatasetInfo, check_request, dataset_info, default_dir, list_datasets
from zoo.datasets.folder import user_folder_listing
from zoo.errors import ZooError, suggest
from zoo.export_targets import check_new_checkpoint
from zoo.prune import Budget
from zoo.utils import check_folder, checkpoint_header, decorator_calls, expand_path, load_plugins, weights_format
from zoo.workflows.command_words import TARGETS
from zoo.workflows.data_spec import DataSpec, check_classes
from zoo.workflows.prune_spec import PruneSpec, WeightsFile
from zoo.workflows.recipes import Finetune, resolve_recipe
from zoo.workflows.run import RunOptions

_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|hpu|mtia|xla|privateuseone)(:\d+)?")
_LEAST_TARGET = 1000  # MACs or parameters: fewer are a part that was mistyped
_KINDS = {2: "points", 3: "images"}  # by the number of axes of one input
_TAKES = {"points": "point clouds", "images": "images"}


def check_train(
    arch: str, data: DataSpec, *, recipe: Path | None, changes: Mapping[str, Any] | None, width: float, seed: int,
    run: RunOptions,
) -> None:  # fmt: skip
    """Raise ZooError for what is wrong with `zoo.workflows.train_entry` of these arguments."""
    kinds = architectures()
    if arch not in kinds:
        raise ZooError(f"there is no network {arch!r}: {suggest(arch, kinds)}")
    _check_run(run)
    if not 0 < width <= 1:
        raise ZooError(f"a width multiplier (`width`) lies above 0 and at most at 1; got {width:g}")
    _check_data(data, arch, kinds[arch])
    _check_data_folder(data)
    resolve_recipe("train", arch, data.dataset, recipe, changes)
    _check_name(run, "train", arch, {"dataset": data.dataset, "seed": seed, **(changes or {})})


def check_finetune(
    name: str, *, data: DataSpec, recipe: Path | None, changes: Mapping[str, Any] | None, seed: int, run: RunOptions
) -> None:
    """Raise ZooError for what is wrong with `zoo.workflows.finetune_entry` of these arguments."""
    _check_run(run)
    card = find_card(name, run.mirror)
    if card is None:
        _check_file(name, data)
        return
    spec = _data_of(card, data)
    _, settings = resolve_recipe("finetune", card.arch, spec.dataset, recipe, changes)
    if settings.distil and card.parent is None:
        raise ZooError(f"{card.name} has no parent to learn from: fine-tune it without `distil`")
    _check_name(run, "finetune", card.name, {"seed": seed, **(changes or {})}, card.name)


def check_reprune(
    entry: str | WeightsFile, spec: PruneSpec, *, finetune: Finetune, data: DataSpec, run: RunOptions
) -> None:
    """Raise ZooError for what is wrong with `zoo.workflows.reprune` of these arguments."""
    _check_run(run)
    if spec.method is not None and spec.method not in (known := methods()):
        raise ZooError(f"There is no pruning method '{spec.method}'; {suggest(spec.method, known)}")
    if isinstance(entry, WeightsFile):
        arch = argument = entry.arch
        kinds = architectures()
        if arch not in kinds:
            raise ZooError(f"with weights from a file, the name is that of a network: {suggest(arch, kinds)}")
        if not data.dataset:
            raise ZooError("with weights from a file, say which data set they were trained on: `dataset=NAME`")
        parent = f"{arch}.{data.suffix}"
        weights_format(expand_path(entry.path))
        _check_data(data, arch, kinds[arch])
        _check_data_folder(data)
    else:
        card = find_card(entry, run.mirror)
        if card is None:
            _check_file(entry, data, same_classes=True)
            return
        arch, parent, argument, data = card.arch, card.name, card.name, _data_of(card, data, same_classes=True)
        check_groups(card.name, card.widths, spec.groups, spec.exclude)
        _check_target(spec.budget, card)
    _check_samples(spec.samples, data)
    if finetune.epochs:
        finetune.recipe(arch, data.dataset)
    _check_name(run, "reprune", argument, {"seed": spec.seed, **spec.goal_on_card()}, parent)


def check_eval(name: str, *, data: DataSpec, run: RunOptions) -> None:
    """Raise ZooError for what is wrong with `zoo.workflows.evaluate_entry` of these arguments."""
    _check_run(run, saves=False)
    card = find_card(name, run.mirror)
    if card is None:
        _check_file(name, data, same_classes=True)
    else:
        _data_of(card, data, same_classes=True)


def check_bench(names: Sequence[str], *, dtype: str, mode: str, run: RunOptions) -> None:
    """Raise ZooError for what is wrong with `zoo.workflows.bench_entries` of these arguments."""
    for what, text, known in (
        ("dtype", dtype, ("float32", "bfloat16", "float16")),
        ("mode", mode, ("eager", "compiled", "cuda_graph")),
    ):
        if text not in known:
            raise ZooError(f"unknown {what} {text!r}: {suggest(text, known)}")
    _check_run(run, saves=False)
    if mode == "cuda_graph" and run.device == "cpu":
        raise ZooError("CUDA graphs need a CUDA GPU: use `mode=eager` or `mode=compiled`")
    cards = [card for name in names if (card := find_card(name, run.mirror)) is not None]
    check_one_shape(cards)


def check_one_shape(cards: Sequence[Card]) -> None:
    """Raise ZooError unless all entries take samples of one shape."""
    shapes = {card.sample_shape: card.name for card in reversed(cards)}
    if len(shapes) > 1:
        takes = ", ".join(f"{name} takes {' x '.join(map(str, shape))}" for shape, name in reversed(shapes.items()))
        raise ZooError(f"entries can be compared on samples of one shape only: {takes}")


def check_convert(
    source: Path, *, arch: str | None, out: Path | None, add: str | None = None, num_classes: int | None = None,
    key: str | None = None, dataset: str | None = None, overwrite: bool = False,
) -> None:  # fmt: skip
    """Raise ZooError for what is wrong with `zoo.convert.convert` of these arguments."""
    kinds = architectures()
    if arch is not None and arch not in kinds:
        raise ZooError(f"there is no network {arch!r}: {suggest(arch, kinds)}")
    if num_classes is not None and num_classes < 1:
        raise ZooError(f"{num_classes} classes are too few: give 1 or more, or leave `num_classes` out")
    check_new_checkpoint(out, add, overwrite=overwrite)
    if dataset is not None:
        _check_known(dataset)
        dataset_info(dataset)
    weights_format(expand_path(source))


def check_groups(
    name: str, widths: Iterable[str], groups: Sequence[str] | None, exclude: Sequence[str] | None
) -> list[str] | None:
    """The groups to prune, of those that a network has; None is all. Raises ZooError for a name that is none of them,
    and where none is left."""
    known = list(widths)
    for group in (*(groups or ()), *(exclude or ())):
        if group not in known:
            near = suggest(group, known)
            rest = f" Its groups: {', '.join(known)}." if near.startswith("did you mean") else ""
            raise ZooError(f"{name} has no neuron group '{group}'; {near}{rest}")
    left = [group for group in (known if groups is None else groups) if group not in (exclude or ())]
    if not left:
        raise ZooError(f"no group of {name} is left to prune: leave `groups` out to prune all, or `exclude` fewer")
    return None if groups is None and not exclude else left


def find_card(name: str, mirror: Sequence[str] = ()) -> Card | None:
    """The card of the entry that a command will take, here or on a mirror; None for a file without a card beside it.

    Raises ZooError where there is no such entry, and for a file that is no checkpoint.
    """
    if not store.is_path(name):
        return store.find(name, mirror=mirror or None)
    return store.checkpoint_at(name)[1]


@functools.cache
def _declared(package: str, folder: str, *decorators: str) -> dict[str, str | None]:
    """Name -> kind of what the files of a package register, read from their source."""
    spec = find_spec(package)
    assert spec is not None  # for the type checker
    assert spec.submodule_search_locations
    at = Path(spec.submodule_search_locations[0]) / folder
    found = {}
    for _, call in (pair for decorator in decorators for pair in decorator_calls(at, decorator)):
        kind = next((word.value.value for word in call.keywords if word.arg == "kind"), None)  # type: ignore[attr-defined]
        found[call.args[0].value] = kind  # type: ignore[attr-defined]  # a constant
    return found


def architectures() -> dict[str, str | None]:
    """The networks by name, those of plugins too -> what each takes, points or images; None is either or neither."""
    load_plugins()
    builtin = _declared("zoo.models", "", "register_model")
    if "zoo.models" not in sys.modules:  # no plugin can have registered one
        return builtin
    from zoo.models import kind_of, list_architectures

    return {arch: builtin[arch] if arch in builtin else kind_of(arch) for arch in list_architectures()}


def methods() -> list[str]:
    """The names of the pruning methods, those of plugins too."""
    load_plugins()
    if "zoo.prune.search" not in sys.modules:
        return sorted(_declared("zoo.prune", "search", "register_method", "register_search"))
    from zoo.prune import list_methods

    return list(list_methods())


def _data_of(card: Card, data: DataSpec, *, same_classes: bool = False) -> DataSpec:
    """The data that a command on an entry reads, checked."""
    for key in ("points", "size"):
        if (value := getattr(data, key)) is not None and value < 1:
            check_request(data.dataset or card.dataset, **{key: value})
    if data.dataset:
        _check_known(data.dataset)
    spec = DataSpec.of(card, data)
    info = _check_data(spec, card.name, _KINDS.get(len(card.sample_shape)))
    if same_classes and spec.folder is not None:
        check_classes(card, spec, user_folder_listing(spec.dataset, spec.data_dir).classes)
    if same_classes and spec.dataset != card.dataset and info not in (None, card.num_classes):
        raise ZooError(
            f"{card.name} tells {card.num_classes} classes apart, but {spec.dataset} has {info}: "
            "use a data set with the same classes"
        )
    _check_data_folder(spec)
    return spec


def _check_file(name: str, data: DataSpec, *, same_classes: bool = False) -> None:
    """Check the data for a checkpoint without a card, as far as its header goes."""
    path, _ = store.checkpoint_at(name)
    header = checkpoint_header(path)
    said = next((known for known in list_datasets() if path.stem.endswith(f".{known}")), None)
    dataset = data.dataset or header.get("dataset") or said
    if not isinstance(dataset, str):
        raise ZooError(f"{path} does not say which data set it was trained on: name it with `dataset=NAME`")
    spec = replace(data, dataset=dataset)
    classes = _check_data(spec, str(path), architectures().get(str(header.get("arch"))))
    if same_classes and data.dataset and classes not in (None, header.get("num_classes")):
        raise ZooError(
            f"{path} tells {header.get('num_classes')} classes apart, but {dataset} has {classes}: "
            "use a data set with the same classes"
        )
    _check_data_folder(spec)


def _check_known(dataset: str) -> None:
    if dataset not in list_datasets():
        load_plugins()


def _check_data(spec: DataSpec, name: str, kind: str | None) -> int | None:
    """Check the data set and the form of its samples for a network of that name; the number of classes, if known."""
    _check_known(spec.dataset)
    form = {key: value for key, value in vars(spec).items() if key not in ("dataset", "data_dir", "validation")}
    info = dataset_info(spec.dataset)
    listing = user_folder_listing(spec.dataset, spec.data_dir) if info.kind is None else None
    holds = info.kind or (listing.kind if listing else None)
    if kind is not None and holds is not None and holds != kind:
        fitting = ", ".join(other for other in list_datasets() if dataset_info(other).kind in (kind, None))
        data = f"{spec.data_dir}" if listing else spec.dataset
        raise ZooError(f"{name} takes {_TAKES[kind]}, {data} holds {_TAKES[holds]}: it can take {fitting}")
    check_request(spec.dataset, **form)
    if spec.validation and not 0 < spec.validation < 1:
        raise ZooError(f"the validation part is {spec.validation}: give a number between 0 and 1, for instance 0.1")
    return len(listing.classes) if listing else info.num_classes


def _check_data_folder(spec: DataSpec) -> None:
    """Raise ZooError for a folder that does not hold the data set, as far as names tell."""
    info = dataset_info(spec.dataset)
    root = default_dir() if spec.data_dir is None else Path(spec.data_dir).expanduser()
    if info.folders and not spec.download and (state := _lacking(root, info)):
        fetch = ", or let its owners' archive be fetched with `download=True`" if info.sources else ""
        raise ZooError(
            f"there is no {spec.dataset} to read: {root} {state}; give the folder that holds it, or "
            f"{' or '.join(info.folders)} in it, with `data_dir=DIR`{fetch}"
        )


def _lacking(root: Path, info: DatasetInfo) -> str | None:
    """What is the matter with the folder of a data set, as far as its names tell."""
    if not root.is_dir():
        return "is no folder"
    if not any(root.iterdir()):
        return "is empty"
    # torch_geometric unpacks archives in raw.
    folders = [root, *(root / name for name in info.folders)]
    folders += [folder / "raw" for folder in folders]
    found = (next(folder.glob(pattern), None) for folder in folders for pattern in info.contents)
    return None if not info.contents or any(found) else f"has no {', '.join(info.contents)}"


def _check_target(budget: Budget | None, card: Card) -> None:
    """Raise ZooError for more MACs or parameters than the network of the card has, and for a part above 1."""
    if budget is None or budget.kind == "milliseconds":
        return
    option = next(option for option, kind in TARGETS.items() if kind == budget.kind)
    value = float(getattr(budget, budget.kind))
    kind, whole = ("MACs", card.macs) if budget.kind == "macs" else ("parameters", card.parameters)
    if 1 < value < _LEAST_TARGET:
        raise ZooError(f"`{option}` is {value:g}: give a part of the {kind} below 1, or their number, as 5e8")
    if whole is not None and value > whole:
        raise ZooError(f"`{option}` is {value:g}, but {card.name} has {whole} {kind}: give fewer, or a part below 1")


def _check_samples(samples: int | None, spec: DataSpec) -> None:
    if samples is None:
        return
    info = dataset_info(spec.dataset)
    listing = user_folder_listing(spec.dataset, spec.data_dir) if info.kind is None else None
    total = len(listing.train) if listing else info.train_samples
    if total is not None and samples > total:
        raise ZooError(f"{samples} samples to prune on were asked for, but the training split has {total}")


def _check_run(run: RunOptions, *, saves: bool = True) -> None:
    if run.device is not None and not _DEVICE.fullmatch(run.device):
        raise ZooError(f"{run.device!r} is not a device for a network: write cpu, cuda or cuda:0")
    if run.device is not None and run.device.startswith("cuda") and not _may_have_gpu():
        raise ZooError(f"device {run.device!r} is asked for, but this machine has no GPU; use `device=cpu`")
    if saves and run.log is not None:
        _check_writable(run.log.parent, f"the log {run.log}")
    if saves and run.output_dir is not None:
        _check_writable(run.output_dir, f"to the folder {run.output_dir}")


def _may_have_gpu() -> bool:
    """Whether torch may find a GPU here: on Linux, whether a driver offers one (NVIDIA's, AMD's, or Windows' below)."""
    nodes = ("/dev/nvidia[0-9]*", "/dev/nvidia-caps*", "/dev/kfd", "/dev/dxg", "/dev/nvhost*", "/dev/nvmap")
    return sys.platform != "linux" or any(glob.glob(node) for node in nodes)


def _check_writable(folder: Path, what: str) -> None:
    """Raise ZooError unless files can be made in a folder that is there, or could be made. Leaves nothing behind."""
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        check_folder(above)
    except ZooError as error:
        raise ZooError(f"cannot write {what}: {str(error).rpartition(': ')[2]}") from error


def _check_name(
    run: RunOptions, command: str, argument: str, settings: Mapping[str, Any], parent: str | None = None
) -> None:
    """Raise ZooError for a name of the new entry that cannot be, or that an entry of another command has.

    settings  those that were given, by their names on cards, None left out; whether the others are the same as well is
              known only when the data is
    """
    if run.name is None:
        return
    parse_name(run.name)
    if run.name == parent:
        raise ZooError(f"{run.name} would be its own parent: give this one another name with `name`")
    if run.output_dir is None and store.is_shipped(run.name):
        raise ZooError(
            f"{run.name} is the name of an entry that is shipped: "
            "give yours another one with `name`, or write it to a folder of its own with `output_dir=DIR`"
        )
    file = run.folder / f"{run.name}.json"
    if run.overwrite or not file.exists():
        return
    recipe = store.read_card(file).recipe
    made_by = str(recipe["command"])
    others = [key for key, value in settings.items() if value is not None and recipe.get(key) != value]
    if made_by.split()[1:3] != [command, argument] or others:
        raise ZooError(
            f"{run.folder} has an entry {run.name} already, made by `{made_by}`: "
            "give this one another name with `name`, or replace that one with `overwrite=True`"
        )
