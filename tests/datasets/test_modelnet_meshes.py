"""ModelNet as Princeton's OFF meshes, of which points are sampled."""

from __future__ import annotations

import math
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from modelnet_layouts import off_text, write_off

from zoo.datasets import load, meshes
from zoo.datasets.modelnet import ModelNet10
from zoo.errors import ZooError


def on_box(cloud: torch.Tensor) -> torch.Tensor:
    """How far each point of a normalised cloud is from the surface of its 1 x 2 x 3 box, in box units.

    The box's faces are where the extremes lie, for 2048 points to within about a per cent.
    """
    low, high = cloud.amin(dim=1, keepdim=True), cloud.amax(dim=1, keepdim=True)
    place = (cloud - low) / (high - low)
    return torch.minimum(place, 1 - place).amin(dim=0)


def test_meshes_give_points_on_their_surface(tmp_path: Path) -> None:
    write_off(tmp_path / "ModelNet10")
    found = load("modelnet10", "train", data_dir=tmp_path, points=2048)
    assert len(found) == 20
    assert [y for _, y in found] == [i // 2 for i in range(20)]
    for x, _ in (found[0], found[1], found[19]):
        assert x.shape == (3, 2048)
        assert x.norm(dim=0).max() == pytest.approx(1, abs=1e-5)
        assert x.mean(dim=1).abs().max() < 1e-5
        extent = x.amax(dim=1) - x.amin(dim=1)
        torch.testing.assert_close(extent / extent[0], torch.tensor([1.0, 2.0, 3.0]), atol=0.03, rtol=0)
        assert on_box(x).max() < 0.01
        # Area-weighted: 2 * 2 * 3 of the 22 units of area are the two sides across x.
        across = torch.minimum(x[0] - x[0].min(), x[0].max() - x[0]) < 0.002
        assert abs(across.float().mean() - 12 / 22) < 0.05
    with pytest.raises(ZooError, match="stores 1 to 2048"):
        load("modelnet10", "test", data_dir=tmp_path, points=2049)


def test_sampled_meshes_are_kept_and_made_again_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_off(tmp_path)
    state = torch.get_rng_state()
    first = ModelNet10(tmp_path, "test").clouds
    assert torch.get_rng_state().equal(state)  # the global generator is the user's
    kept = sorted(tmp_path.glob("*/test/.zoo-*.npy"))
    assert len(kept) == 10

    real, calls = meshes.sample_mesh, []

    def counted(path: Path, points: int, *, name: str, seed: int) -> torch.Tensor:
        calls.append(path.name)
        return real(path, points, name=name, seed=seed)

    monkeypatch.setattr(meshes, "sample_mesh", counted)
    assert ModelNet10(tmp_path, "test").clouds.equal(first)
    assert calls == []
    kept[3].write_bytes(kept[3].read_bytes()[:1000])  # damaged: made again, and the same
    assert ModelNet10(tmp_path, "test").clouds.equal(first)
    assert calls == ["desk_0000.off", "desk_0001.off"]
    (tmp_path / "bed" / "test" / "bed_0001.off").write_text(off_text(9.0).replace("0.0 0.0 27.0", "0.0 0.0 40.0"))
    changed = ModelNet10(tmp_path, "test").clouds
    assert calls[2:] == ["bed_0000.off", "bed_0001.off"]
    assert [i for i in range(20) if not changed[i].equal(first[i])] == [3]
    assert not ModelNet10(tmp_path, "test", sampling_seed=1).clouds[0].equal(first[0])
    shutil.copytree(tmp_path, tmp_path.parent / "elsewhere", ignore=shutil.ignore_patterns(".zoo-*"))
    assert ModelNet10(tmp_path.parent / "elsewhere", "test").clouds.equal(changed)  # of the mesh, not of its path


def test_broken_meshes_are_named(tmp_path: Path) -> None:
    write_off(tmp_path)
    path = tmp_path / "chair" / "test" / "chair_0001.off"
    for text, message in [
        ("", "no readable OFF mesh: it is empty"),
        ("PLY\n1 2 3\n", "no readable OFF mesh: line 1 was expected to hold OFF"),
        (off_text()[:60], "8 vertices and 6 faces are announced, "),
        (off_text().replace("4 3 0 4 7", "4 3 0 4 8"), "a face names a vertex that is not there"),
        (off_text().replace("1.0 2.0 3.0", "1.0 nan 3.0"), "line 9 holds the vertex 1.0 nan 3.0"),
        (off_text().replace("1.0 2.0 3.0", "1.0 two 3.0"), "no readable OFF mesh: line 9 holds no vertex"),
        (off_text(0.0), "has no surface to sample"),
        ("OFF\n3 0 0\n0 0 0\n1 0 0\n0 1 0\n", "no faces"),
    ]:
        path.write_text(text)
        with pytest.raises(ZooError, match=rf"chair_0001\.off .*{message}"):
            ModelNet10(tmp_path, "test")
    shutil.rmtree(tmp_path / "chair" / "test")
    with pytest.raises(ZooError, match=r"has no meshes chair/test/\*\.off; 10 class folders were expected"):
        ModelNet10(tmp_path, "test")


def test_reading_equals_torch_geometric_where_that_reads(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # importing it calls torch.jit.script
        from torch_geometric.io import read_off
    path = tmp_path / "a.off"
    path.write_text(off_text())
    theirs = read_off(str(path))
    vertices, triangles = meshes.read_mesh(path)
    assert vertices.equal(theirs.pos)

    def faces(index: torch.Tensor) -> list[tuple[int, ...]]:  # they list all first halves of quads, then the second
        return sorted(tuple(corner) for corner in index.T.tolist())

    assert faces(triangles) == faces(theirs.face)
    # And what it does not read, or reads wrongly, gives the same mesh.
    for text in (
        off_text(header="OFF8 6 0"),
        off_text(header="OFF 8 6 0"),
        off_text(header="OFF\n# a comment\n\n8 6 12"),
        off_text().rstrip("\n"),
        off_text().replace("\n", "\r\n"),
        off_text().replace("\n", " \n\n"),
        off_text().replace("4 0 1 2 3", "4 0 1 2 3 255 0 0"),
    ):
        path.write_bytes(text.encode())
        again = meshes.read_mesh(path)
        assert again[0].equal(vertices)
        assert again[1].equal(triangles)


def test_a_face_of_five_corners_keeps_its_area(tmp_path: Path) -> None:
    angle = [2 * math.pi * i / 5 for i in range(5)]
    places = "\n".join(f"{math.cos(a)} {math.sin(a)} 0" for a in angle)
    (tmp_path / "a.off").write_text(f"OFF\n5 1 0\n{places}\n5 0 1 2 3 4\n")
    vertices, triangles = meshes.read_mesh(tmp_path / "a.off")
    corners = vertices[triangles.T]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1).sum() / 2
    assert triangles.shape == (3, 3)
    assert area == pytest.approx(5 / 2 * math.sin(2 * math.pi / 5), rel=1e-5)


@pytest.mark.parametrize("root", ["", "ModelNet10", "ModelNet10/raw"])
def test_the_folder_of_torch_geometric(tmp_path: Path, root: str) -> None:
    write_off(tmp_path / "ModelNet10" / "raw", count=1)
    (tmp_path / "ModelNet10" / "processed").mkdir()
    found = load("modelnet10", "test", data_dir=tmp_path / root)
    assert [label for _, label in found] == list(range(10))
