"""ModelNet as text clouds with normals (modelnet40_normal_resampled)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from modelnet_layouts import write_text

from zoo.datasets import load
from zoo.datasets.modelnet import MODELNET10, MODELNET40, ModelNet10
from zoo.datasets.point_transforms import normalise
from zoo.errors import ZooError


def test_text_clouds_with_normals(tmp_path: Path) -> None:
    written = write_text(tmp_path / "modelnet40_normal_resampled", MODELNET40, 40, ("modelnet40",))
    found = load("modelnet40", "train", data_dir=tmp_path, points=32)
    assert found.classes == list(MODELNET40)
    assert [label for _, label in found] == [label for label in range(40) for _ in range(2)]
    for i, (cloud, label) in enumerate(found):
        whole = torch.from_numpy(written[f"{MODELNET40[label]}_{(2, 0)[i % 2]:04}"].T.copy())
        torch.testing.assert_close(cloud, normalise(whole)[:, :32].float(), atol=1e-5, rtol=0)
    ten = load("modelnet10", "test", data_dir=tmp_path, points=40)  # from the lists of ModelNet40
    assert [ten.classes[label] for _, label in ten] == list(MODELNET10)
    torch.testing.assert_close(
        ten[6][0], normalise(torch.from_numpy(written["night_stand_0001"].T.copy())).float(), atol=1e-5, rtol=0
    )
    assert len(list(tmp_path.glob("*/*/.zoo-*.npy"))) == 50
    assert load("modelnet40", "train", data_dir=tmp_path, points=32)[5][0].equal(found[5][0])


def test_of_long_text_clouds_the_first_points_are_read(tmp_path: Path) -> None:
    written = write_text(tmp_path, MODELNET10, 2100, ("modelnet10", "modelnet40"))
    found = ModelNet10(tmp_path, "test", points=2048)
    first = normalise(torch.from_numpy(written["bathtub_0001"][:2048].T.copy()))
    torch.testing.assert_close(found[0][0], first.float(), atol=1e-5, rtol=0)


def test_broken_text_clouds_are_named(tmp_path: Path) -> None:
    write_text(tmp_path, MODELNET10, 4, ("modelnet10",))
    path = tmp_path / "chair" / "chair_0001.txt"
    whole = path.read_text()
    for text, message in [
        ("", "holds no point"),
        (whole.replace(",", " ").splitlines()[0], "holds 1 points, .*bathtub_0001.txt holds 4"),
        (whole + "1,2,3\n", "holds 5 points"),
        ("1,2,3\n1,2\n", ", line 2, holds '1,2'; three coordinates"),
        ("1,2,3\n# none\n1,nan,3\n", ", line 3, holds '1,nan,3'"),
        ("1,2,3\n1,2,1e30\n", ", line 2, holds '1,2,1e30'.* at most 1e"),
        ("1,2,3\n1,two,3\n", ", line 2, holds no point: .*'two'"),
    ]:
        path.write_text(text)
        with pytest.raises(ZooError, match=rf"chair_0001\.txt.*{message}"):
            ModelNet10(tmp_path, "test", points=4)
    path.unlink()
    with pytest.raises(ZooError, match=r"cannot read .*chair_0001\.txt"):
        ModelNet10(tmp_path, "test", points=4)
    (tmp_path / "modelnet10_test.txt").write_text("lamp_0001\n")
    with pytest.raises(ZooError, match=r"modelnet10_test\.txt has none of the 10 classes bathtub, bed, chair, \.\.\."):
        ModelNet10(tmp_path, "test", points=4)
    (tmp_path / "modelnet10_test.txt").unlink()
    with pytest.raises(ZooError, match=r"cannot read .*modelnet10_test\.txt"):
        ModelNet10(tmp_path, "test", points=4)
