"""The data sets by name: `register_dataset` adds one, `dataset_info` describes one without importing torch.

A file of this folder, or of `folder/`, that applies `@register_dataset(DatasetInfo(...))` to its class is all that a
new data set needs: the records are read from the source of the files (`zoo.utils.decorator_calls`), and a file is
imported when its data set is loaded. A data set outside this package is known once the file that registers it has been
imported.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeVar

from zoo.errors import ZooError, suggest
from zoo.utils import decorator_calls

Kind = Literal["points", "images"]
SPLITS = ("train", "test")
PRUNING_SAMPLES = 512

Loader = TypeVar("Loader", bound=Callable[..., Any])


@dataclass(frozen=True)
class Source:
    """One archive to download: its layout, its address, and its SHA-256 where its owner has published one."""

    layout: str
    url: str
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The description of a data set, available without loading it.

    kind             what the samples are; None if it depends on the folder, which then is the user's own
    num_classes      number of classes of the complete data set, None if it depends on the copy
    classes          their names for people, in the order of the labels; empty if they depend on the copy
    sample_shape     (3, N) for point clouds, (3, H, W) for images, in the default form; () if it depends on the folder
    description      one line for people, with the numbers of samples
    terms            the terms of use of the data
    options          the options that `load` passes on to the loader, such as points, size, mean, std
    title            the name in tables and sentences, where `name` would claim too much (None: `name`)
    folders          usual names of the folder of the data, looked for in the folder that the user gives
    sources          the archives that its owners publish
    weights_terms    the terms of use of weights trained on it (None: those of the data)
    difficulty       the name of an entry without a data set means the entry on the most difficult one in the zoo
    resize           how an image of any size becomes a test sample (`zoo.datasets.image_files`): its shorter side is
                     resized to `size`, or "auto"; None for clouds, and where single images are not read
    pruning_samples  number of training samples that a network is pruned on by default
    train_samples    number of training samples of the complete data set, None if it depends on the folder
    contents         patterns, one of which a file or folder in the data's folder matches: a folder with none of them is
                     refused before anything is read
    """

    name: str
    kind: Kind | None
    num_classes: int | None
    sample_shape: tuple[int, ...]
    description: str
    terms: str
    options: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    title: str | None = None
    folders: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    weights_terms: str | None = None
    difficulty: int = 0
    pruning_samples: int = PRUNING_SAMPLES
    resize: Literal["auto", "size"] | None = None
    train_samples: int | None = None
    contents: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Registered:
    info: DatasetInfo
    loader: Callable[..., Any]


_REGISTERED: dict[str, _Registered] = {}


@functools.cache
def _builtin() -> dict[str, tuple[DatasetInfo, str]]:
    """Name of each data set of this package -> its description, and the module that registers it."""
    builtin, here = {}, Path(__file__).parent
    calls = [(file, call) for file, call in decorator_calls(here, "register_dataset")]
    calls += [(f"folder.{file}", call) for file, call in decorator_calls(here / "folder", "register_dataset")]
    for file, call in calls:
        # The expression can use these two names only, because the rest of the file has not been run.
        code = compile(ast.Expression(call.args[0]), file, "eval")
        info: DatasetInfo = eval(code, {"DatasetInfo": DatasetInfo, "Source": Source})
        builtin[info.name] = (info, f"zoo.datasets.{file}")
    return builtin


def register_dataset(info: DatasetInfo) -> Callable[[Loader], Loader]:
    """Decorator for a `LabelledDataset` class or a function that returns one: `load(info.name, ...)` then calls it.

    The loader is called with keyword arguments: `split`, "train" or "test", and those of `root` (the folder that was
    given, or the default one), `download`, `augment`, `seed` and `info.options` that it has as parameters; an option
    that the user has not given is not passed, so that the loader's own default holds.

    Raises ZooError if another data set has that name.
    """

    def register(loader: Loader) -> Loader:
        before, builtin = _REGISTERED.get(info.name), _builtin().get(info.name)
        file = before.loader.__module__ if before else builtin[1] if builtin else loader.__module__
        if file != loader.__module__:
            raise ZooError(
                f"a data set {info.name!r} is registered already, by {file}: register this one by another name"
            )
        _REGISTERED[info.name] = _Registered(info, loader)
        return loader

    return register


def list_datasets() -> list[str]:
    """The names that `load` takes, sorted."""
    return sorted({*_builtin(), *_REGISTERED})


def datasets_by_difficulty() -> list[str]:
    """The same names, the most difficult data set first."""
    return sorted(list_datasets(), key=lambda name: (-dataset_info(name).difficulty, name))


def dataset_title(name: str) -> str:
    """How tables and sentences call a data set; one that is not registered is called by its name."""
    return (dataset_info(name).title if name in list_datasets() else None) or name


def dataset_info(name: str) -> DatasetInfo:
    """The record of one data set; an unknown name is a ZooError that suggests near ones."""
    if name in _REGISTERED:
        return _REGISTERED[name].info
    if name not in _builtin():
        raise ZooError(f"no data set is called {name!r}; {suggest(name, list_datasets())}")
    return _builtin()[name][0]


def loader_of(name: str) -> Callable[..., Any]:
    """The class or function that was registered for a data set; this imports its file."""
    dataset_info(name)  # an unknown name is an error here
    if name not in _REGISTERED:
        import_module(_builtin()[name][1])
    return _REGISTERED[name].loader


def check_split(split: str) -> str:
    """`split` itself if it is "train" or "test"."""
    if split not in SPLITS:
        raise ZooError(f'the split is "train" or "test", not {split!r}')
    return split
