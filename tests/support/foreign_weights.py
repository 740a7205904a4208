"""Weights of a small network, and what a file of weights is refused with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from zoo import models
from zoo.cli import main
from zoo.convert import convert
from zoo.errors import ZooError

State = dict[str, Tensor]


def mlp(seed: int = 0) -> State:
    torch.manual_seed(seed)
    return models.build("mlp", num_classes=3, widths={"hidden1": 7, "hidden2": 4}, in_features=5).state_dict()


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def equal(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def run(*words: str | Path) -> Result:
    result = CliRunner().invoke(main, ["convert", *map(str, words)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refused(path: Path, **options: Any) -> str:
    """The sentence that a file is refused with."""
    with pytest.raises(ZooError) as error:
        convert(path, arch="mlp", out=path.parent / "out.safetensors", **options)
    assert "\n" not in str(error.value)
    assert not (path.parent / "out.safetensors").exists()
    return str(error.value)


class Reduced:
    """Pickles as the call of a function with arguments, and a state."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts
