"""A zoo with one small trained entry, for tests of commands, and what they all do with it (the fixture `home`)."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zoo.cli import main
from zoo.datasets import load as real_load
from zoo.datasets.shapes import Shapes
from zoo.store import folders
from zoo.utils import sha256_of
from zoo.workflows import DataSpec, RunOptions, data_spec, train_entry

SMALL = ["--points", "24", "--device", "cpu"]


def load(name: str, split: str, **options):
    """`zoo.datasets.load`, but Shapes has 100 samples to train on and 60 to test on."""
    if name != "shapes":
        return real_load(name, split, **options)
    return Shapes(split, options.get("points") or 24, train_size=100, test_size=60, augment=options["augment"])


def small_zoo(folder: Path) -> None:
    """Make a zoo there with one entry, dgcnn-0.25x.shapes, trained for twelve epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_HOME", str(folder))
        patch.setattr(data_spec, "load", load)
        data, run = DataSpec(dataset="shapes", points=24), RunOptions(device="cpu")
        train_entry("dgcnn", data, changes={"epochs": 12}, width=0.25, run=run)


def small_home(zoo: Path, home: Path, patch: pytest.MonkeyPatch) -> None:
    """A copy of that zoo, in which nothing is shipped and Shapes is small."""
    shutil.copytree(zoo, home)
    patch.setattr(data_spec, "load", load)
    patch.setenv("ZOO_HOME", str(home))
    patch.delenv("ZOO_MIRROR", raising=False)
    patch.setattr(folders, "PACKAGE_DIR", home.parent / "nothing")


def run(*words: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def made(*words: str | Path) -> dict:
    """The one JSON document that a command prints."""
    result = run(*words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def entries(folder: Path) -> dict[str, str]:
    """Every file below a folder and its hash."""
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def without_known(files: dict[str, str]) -> dict[str, str]:
    """But for what repruning keeps for later goals."""
    return {name: value for name, value in files.items() if not name.startswith("known/")}


class Counting:
    """`load`, counting how many augmented samples are read; SIGTERM comes `at` one of them."""

    def __init__(self, load, at: int = 0) -> None:
        self.load, self.at, self.augmented = load, at, 0

    def __call__(self, name: str, split: str, **options):
        dataset = self.load(name, split, **options)
        augmented = dataset.augmented

        def counted(*arguments):
            self.augmented += 1
            if self.augmented == self.at:
                os.kill(os.getpid(), signal.SIGTERM)
            return augmented(*arguments)

        dataset.augmented = counted
        return dataset
