"""ModelNet in whatever layout: folders that hold none, and those that hold a part of the classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelnet_layouts import write_off, write_text

from zoo.datasets import load
from zoo.datasets.modelnet import MODELNET10, ModelNet10, read_off
from zoo.errors import ZooError


def test_missing_and_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"absent is no folder: looked for shape_names\.txt"):
        load("modelnet10", "test", data_dir=tmp_path / "absent")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ZooError, match=r"holds no ModelNet: .*give the folder that has one with `data_dir=DIR`"):
        load("modelnet40", "test", data_dir=tmp_path)


def test_a_part_of_the_classes_is_read_and_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_off(tmp_path / "meshes", ("sofa", "chair"), count=1)
    assert [label for _, label in ModelNet10(tmp_path / "meshes", "test")] == [2, 7]
    assert "meshes has 2 of 10 classes, without bathtub, bed, desk, ...\n" in capsys.readouterr().err
    write_text(tmp_path / "text", MODELNET10[:9], 4, ("modelnet10",))
    assert [label for _, label in ModelNet10(tmp_path / "text", "test", points=4)] == list(range(9))
    assert "modelnet10_test.txt has 9 of 10 classes, without toilet\n" in capsys.readouterr().err
    with pytest.raises(ZooError, match=r"meshes has none of the 1 classes vase"):
        read_off(tmp_path / "meshes", "test", ("vase",))
