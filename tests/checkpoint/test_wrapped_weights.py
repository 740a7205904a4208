"""Weights under a key, and with a prefix before their names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_weights import State, equal, mlp, prefixed, refused, run

from zoo import checkpoint
from zoo.convert import read_weights


@pytest.mark.parametrize(
    ("wrap", "key", "others"),
    [
        *((lambda a, b, k=k: {k: a, "epoch": 3}, k, ()) for k in ("state_dict", "model_state_dict", "model", "net")),
        *((lambda a, b, k=k: {"model": b, k: a}, k, ("model",)) for k in ("ema", "model_ema", "state_dict_ema")),
        (lambda a, b: {"model": {"state_dict": a, "epoch": 3}}, "model.state_dict", ()),
        (lambda a, b: {"ema": None, "model": a}, "model", ()),
        (lambda a, b: {"ema": {"decay": 0.9, "module": a}, "state_dict": b}, "ema.module", ("state_dict",)),
        (lambda a, b: {**a, "epoch": 3, "arch": "mlp"}, "", ()),
    ],
)
def test_wrapped_weights_are_found_and_what_was_taken_is_said(
    wrap: Callable[[State, State], Any], key: str, others: tuple[str, ...], tmp_path: Path
) -> None:
    ours, theirs = mlp(0), mlp(1)
    torch.save(wrap(ours, theirs), tmp_path / "w.bin")
    found = read_weights(tmp_path / "w.bin", "mlp")
    assert equal(found.state, ours)
    assert (found.key, found.others) == (key, others)
    for other in others:
        assert equal(read_weights(tmp_path / "w.bin", "mlp", key=other).state, theirs)
        result = run(tmp_path / "w.bin", "--arch", "mlp", "-o", tmp_path / "out.safetensors", "--overwrite")
        assert f"those under the key {key}; --key {other} takes the others" in result.stdout
        words = ("--arch", "mlp", "-o", tmp_path / "out.safetensors", "--overwrite", "--json", "--key", other)
        assert json.loads(run(tmp_path / "w.bin", *words).stdout)["key"] == other
        assert equal(checkpoint.load(tmp_path / "out.safetensors").state_dict(), theirs)  # type: ignore[arg-type]


def test_an_unknown_key_is_answered_with_the_keys_that_there_are(tmp_path: Path) -> None:
    torch.save({"weird": mlp(), "epoch": 3, "deep": {"er": mlp()}}, tmp_path / "w.pth")
    sentence = refused(tmp_path / "w.pth")
    assert "its keys are weird (6 tensors), epoch, deep; `zoo convert --key weird` takes those" in sentence
    assert equal(read_weights(tmp_path / "w.pth", "mlp", key="weird").state, mlp())
    assert equal(read_weights(tmp_path / "w.pth", "mlp", key="deep.er").state, mlp())
    assert "has no key none: its keys are weird (6 tensors)" in refused(tmp_path / "w.pth", key="none")
    torch.save([1], tmp_path / "w.pth")
    assert "found a list" in refused(tmp_path / "w.pth")
    content: dict[str, Any] = {}
    content["model"] = content
    torch.save(content, tmp_path / "w.pth")
    assert "holds no weights" in refused(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "module.module.", "_orig_mod.module.model.", "net.", "encoder.q."]
)
def test_prefixes_repeated_and_nested_are_removed(prefix: str, tmp_path: Path) -> None:
    torch.save({"state_dict": prefixed(prefix, mlp())}, tmp_path / "w.ckpt")
    assert equal(read_weights(tmp_path / "w.ckpt", "mlp").state, mlp())


def test_prefixes_inside_a_name_and_counters_of_averages(tmp_path: Path) -> None:
    parts = {name.replace("hidden1.", "hidden1._orig_mod."): tensor for name, tensor in mlp().items()}
    torch.save({**prefixed("module.", parts), "n_averaged": torch.tensor(3)}, tmp_path / "w.pt")
    assert equal(read_weights(tmp_path / "w.pt", "mlp").state, mlp())


def test_a_network_whose_own_names_begin_alike_keeps_them(tmp_path: Path) -> None:
    own = prefixed("model.", mlp())
    torch.save(prefixed("module.", own), tmp_path / "w.pt")
    found = checkpoint.read_weights_file(tmp_path / "w.pt", expected=own)
    assert equal(found.state, own)
