"""Weights in several files, with an index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from foreign_weights import equal, mlp, refused
from safetensors.torch import save_file

from zoo import checkpoint
from zoo.convert import read_weights
from zoo.errors import ZooError


def sharded(folder: Path, ending: str) -> Path:
    state, places = mlp(), {}
    names = sorted(state)
    for i, part in enumerate((names[:3], names[3:]), 1):
        file = f"model-{i:05}-of-00002.{ending}"
        tensors = {name: state[name] for name in part}
        if ending == "bin":
            torch.save(tensors, folder / file)
        else:
            save_file(tensors, folder / file)
        places |= dict.fromkeys(part, file)
    index = folder / f"model.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_shards_are_read_by_their_index(ending: str, tmp_path: Path) -> None:
    index = sharded(tmp_path, ending)
    assert equal(read_weights(index, "mlp").state, mlp())
    first = tmp_path / f"model-00001-of-00002.{ending}"
    assert f"is one of 2 files that together are the weights: give their index instead, {index}" in refused(first)
    assert f"give the file of weights in it, as {index}" in _folder_sentence(tmp_path)
    first.unlink()
    assert f"lists {first.name}, which is not beside it: fetch all 2 files" in refused(index)


def _folder_sentence(folder: Path) -> str:
    with pytest.raises(ZooError) as error:
        checkpoint.read_state(folder)
    return str(error.value)


@pytest.mark.parametrize("file", ["../w.pth", "/etc/passwd", "", "..", "a\\b"])
def test_an_index_leads_nowhere_else(file: str, tmp_path: Path) -> None:
    torch.save(mlp(), tmp_path / "w.pth")
    (tmp_path / "in").mkdir()
    index = tmp_path / "in" / "w.index.json"
    index.write_text(json.dumps({"weight_map": {"out.bias": file}}))
    assert "the files of an index lie beside it" in refused(index)
    index.write_text(json.dumps({"weight_map": {"out.bias": "w.index.json"}}))
    assert "is an index where the weights were expected" in refused(index)
