"""Image folders and CIFAR-10 (JPEG), written here in the real formats, against PIL and arithmetic by hand."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from zoo.datasets import load
from zoo.datasets.cifar import Cifar10
from zoo.datasets.imagenet import ImageNet
from zoo.errors import ZooError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours, so that JPEG keeps them and a resize has something to average."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes; n3 is empty in train, n1 is missing in val."""
    for name in ("train/n1", "train/n2", "train/n3", "val/n2", "val/n3", "val/.hidden"):
        (tmp_path / name).mkdir(parents=True)
    picture(40, 32, 1).save(tmp_path / "train/n1/b.JPEG", "jpeg")
    picture(32, 32, 2).save(tmp_path / "train/n1/a.png")
    picture(50, 36, 3).convert("L").save(tmp_path / "train/n2/c.webp", lossless=True)
    picture(64, 48, 4).save(tmp_path / "val/n3/d.jpg", quality=95)
    picture(32, 32, 5).save(tmp_path / "val/n2/e.png")
    (tmp_path / "val/n2/notes.txt").write_text("no image")
    return tmp_path


def by_hand(image: Image.Image, size: int, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> np.ndarray:
    """The centre of an image, normalised: (3, size, size)."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    top, left = round((pixels.shape[0] - size) / 2), round((pixels.shape[1] - size) / 2)
    cut = pixels[top : top + size, left : left + size] / 255
    return ((cut - np.array(mean)) / np.array(std)).transpose(2, 0, 1)


def test_as_stored_is_the_centre_of_the_file(root: Path) -> None:
    data = ImageNet(root, "train", size=32, resize=None)
    files = ["train/n1/a.png", "train/n1/b.JPEG", "train/n2/c.webp"]
    assert data.classes == ["n1", "n2", "n3"]
    assert [y for _, y in data] == [0, 0, 1]
    for (x, _), name in zip(data, files, strict=True):
        assert x.dtype == torch.float32
        assert type(x) is torch.Tensor
        np.testing.assert_allclose(x.numpy(), by_hand(Image.open(root / name), 32), atol=1e-5)
    test = ImageNet(root, "test", size=32, resize=None)
    assert [y for _, y in test] == [1, 2]


def test_mean_and_std_of_a_half_give_minus_one_to_one(root: Path) -> None:
    x, y = load("imagenet", "test", data_dir=root, size=32, mean=(0.5,) * 3, std=(0.5,) * 3)[0]
    pixels = np.asarray(Image.open(root / "val/n2/e.png"), dtype=np.float64)
    np.testing.assert_allclose(x.numpy(), (pixels / 127.5 - 1).transpose(2, 0, 1), atol=1e-5)
    assert y == 1


def test_resize_takes_the_shorter_side(root: Path) -> None:
    image = Image.open(root / "val/n3/d.jpg")  # 64 x 48
    for data, shorter in (
        (ImageNet(root, "test", size=24, resize=30), 30),
        (ImageNet(root, "test", size=28), 32),  # auto: 28 * 256 / 224
        (load("imagenette", "test", data_dir=root, size=32), 32),
    ):
        resized = image.resize((shorter * 4 // 3, shorter), Image.Resampling.BILINEAR)
        x, _ = data[1]
        assert x.shape == data.sample_shape
        np.testing.assert_allclose(x.numpy(), by_hand(resized, data.sample_shape[1]), atol=1e-5)


def test_auto_leaves_an_image_of_the_right_size_alone(root: Path) -> None:
    x, _ = ImageNet(root, "test", size=32)[0]
    np.testing.assert_allclose(x.numpy(), by_hand(Image.open(root / "val/n2/e.png"), 32), atol=1e-5)


def test_augmented_images_are_flipped_crops_of_the_image(root: Path) -> None:
    data = ImageNet(root, "train", size=8, augment=True, mean=(0, 0, 0), std=(1, 1, 1))
    image = picture(400, 400)
    # Red is how far right, green how far down: what a crop shows tells which crop it is.
    ramp = np.stack([np.tile(np.arange(400) * 255 / 399, (400, 1))] * 3, axis=2)
    ramp[:, :, 1] = ramp[:, :, 0].T
    image = Image.fromarray(ramp.astype(np.uint8))
    image.save(root / "train/n1/a.png")
    seen = []
    for epoch in range(200):
        data.set_epoch(epoch)
        x = data[0][0]
        right, down = x[0].mean(dim=0), x[1].mean(dim=1)
        steps = right.diff(), down.diff()
        assert all(step.std() < 0.01 for step in steps)  # evenly spaced: a crop, resized
        assert (steps[1] > 0).all()  # never upside down
        width, height = (abs(float(step.mean())) * 8 for step in steps)
        assert 0.06 < width * height < 1.05  # the crop's share of the area: 0.08 to 1
        assert 0.7 < width / height < 1.42  # its proportions: 3/4 to 4/3
        seen.append((float(steps[0].mean()) < 0, width * height))
    assert 70 < sum(flipped for flipped, _ in seen) < 130
    assert min(share for _, share in seen) < 0.2 < 0.8 < max(share for _, share in seen)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning", "ignore:This DataLoader:UserWarning")
def test_augmentation_ignores_the_global_generator_and_the_workers(root: Path) -> None:
    def all_of(workers: int, epoch: int, seed: int = 0) -> torch.Tensor:
        data = ImageNet(root, "train", size=16, augment=True, seed=seed)
        data.set_epoch(epoch)
        torch.manual_seed(workers)
        state = torch.get_rng_state()
        assert data[0][0].shape == (3, 16, 16)
        assert torch.get_rng_state().equal(state)
        return torch.cat([x for x, _ in DataLoader(data, batch_size=2, num_workers=workers)])

    first = all_of(0, 4)
    assert first.equal(all_of(2, 4))
    assert not first.equal(all_of(0, 5))
    assert not first.equal(all_of(0, 4, seed=1))


def test_classes_from_a_list_and_from_wnids(root: Path) -> None:
    data = ImageNet(root, "train", size=16, classes=["n2", "n0", "n1"])
    assert [y for _, y in data] == [0, 2, 2]
    (root / "wnids.txt").write_text("n3\nn2\nn1\nn0\n")
    data = ImageNet(root, "train", size=16)
    assert data.classes == ["n0", "n1", "n2", "n3"]
    assert [y for _, y in data] == [1, 1, 2]
    assert [y for _, y in ImageNet(root, "train", size=16, classes=["n2"])] == [0]
    (root / "wnids.txt").write_text("n1\nn3\n")
    with pytest.raises(ZooError, match=r"train/n2 is a class that wnids\.txt does not list"):
        ImageNet(root, "train", size=16)
    (root / "wnids.txt").write_text("n1\nn2\nn1\n")
    with pytest.raises(ZooError, match="lists a class twice"):
        ImageNet(root, "train", size=16)


def test_a_corrupt_image_is_named(root: Path) -> None:
    whole = {path: path.read_bytes() for path in sorted(root.glob("*/*/*")) if path.suffix != ".txt"}
    assert len(whole) == 5
    for path, content in whole.items():
        split = "train" if "train" in path.parts else "test"
        for broken in (b"", b"<html>", content[: len(content) // 2], content[:30]):
            path.write_bytes(broken)
            data = ImageNet(root, split, size=8)
            index = [sample for sample, _ in data.samples].index(path)
            with pytest.raises(ZooError, match=rf"{path.name} is no readable image"):
                data[index]
        path.write_bytes(content)
        assert data[index][0].isfinite().all()


def test_folders_and_options_that_do_not_fit(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    for arguments, options, message in [
        (("imagenet", "test"), {"data_dir": empty}, r"val is no folder: looked for train/ and val/"),
        (
            ("imagenet", "test"),
            {"data_dir": root, "points": 8},
            "`points` does not apply; it takes `mean`, `size`, `std`",
        ),
        (("imagenet", "test"), {"data_dir": root, "size": 0}, "1 pixel or more, not 0"),
        (("imagenet", "test"), {"data_dir": root, "mean": (0.5,)}, r"`mean` takes three numbers .*\[0.5\]"),
        (("imagenet", "test"), {"data_dir": root, "std": (1, 0, 1)}, "`std` takes three numbers above 0"),
        (("imagenet", "test"), {"data_dir": root, "download": True}, "imagenet cannot be downloaded here"),
    ]:
        with pytest.raises(ZooError, match=message):
            load(*arguments, **options)
    (empty / "val" / "n1").mkdir(parents=True)
    with pytest.raises(ZooError, match="val holds no image"):
        ImageNet(empty, "test")
    with pytest.raises(ZooError, match="resize 16 leaves no cut of 32 x 32"):
        ImageNet(root, "test", size=32, resize=16)
    with pytest.raises(ZooError, match=r"d\.jpg is 64 x 48, smaller than the 60 x 60 cut"):
        ImageNet(root, "test", size=60, resize=None)[1]


def test_the_data_folder_may_come_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = root / "home"
    home.mkdir()
    (root / "train").rename(home / "train")
    (root / "val").rename(home / "val")
    home.rename(root / "imagenette")
    monkeypatch.setenv("ZOO_DATA_DIR", str(root))
    assert load("imagenette", "test", size=32)[0][0].equal(
        load("imagenette", "test", size=32, data_dir=root / "imagenette")[0][0]
    )


NAMES = ["airplane", "automobile", "bird"]


def write_cifar(path: Path, count: int = 6, size: int = 32) -> list[bytes]:
    encoded = []
    for i in range(count):
        stream = io.BytesIO()
        picture(size, size, i).save(stream, "jpeg", quality=90 - 5 * i)
        encoded.append(stream.getvalue())
    with h5py.File(path, "w") as file:
        file["jpeg"] = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        file["offset"] = np.cumsum([0, *map(len, encoded)]).astype(np.int64)
        file["label"] = (np.arange(count) % 3).astype(np.uint8)
        file.attrs["classes"] = NAMES
    return encoded


def test_cifar_gives_the_images_that_were_written(tmp_path: Path) -> None:
    encoded = write_cifar(tmp_path / "test.h5")
    data = load("cifar10", "test", data_dir=tmp_path, mean=MEAN, std=STD, size=32)
    assert data.classes == NAMES
    assert [y for _, y in data] == [0, 1, 2, 0, 1, 2]
    for (x, _), image in zip(data, encoded, strict=True):
        assert x.shape == data.sample_shape
        np.testing.assert_allclose(x.numpy(), by_hand(Image.open(io.BytesIO(image)), 32), atol=1e-5)


def test_cifar_augmentation_is_a_padded_crop_and_a_flip(tmp_path: Path) -> None:
    write_cifar(tmp_path / "train.h5")
    plain = Cifar10(tmp_path, "train", mean=(0, 0, 0), std=(1, 1, 1))
    varied = Cifar10(tmp_path, "train", mean=(0, 0, 0), std=(1, 1, 1), augment=True)
    found = set()
    for i in range(len(plain)):
        padded = torch.nn.functional.pad(plain[i][0], (4, 4, 4, 4))
        # Every 32 x 32 cut of the 40 x 40 image, and its mirror image: (2, 9, 9, 3, 32, 32)
        cuts = padded.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4)
        cuts = torch.stack([cuts, cuts.flip(-1)])
        for epoch in range(15):
            varied.set_epoch(epoch)
            match = ((cuts - varied[i][0]).abs().amax(dim=(3, 4, 5)) < 1e-6).nonzero().tolist()
            assert len(match) == 1
            found.add(tuple(match[0]))
    assert {top for _, top, _ in found} == {left for _, _, left in found} == set(range(9))
    assert {flip for flip, _, _ in found} == {0, 1}


def test_cifar_files_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "test.h5"
    with pytest.raises(ZooError, match=r"test\.h5 is no file: looked for train\.h5 and test\.h5"):
        load("cifar10", "test", data_dir=tmp_path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(ZooError, match=r"test\.h5 has no jpeg, offset, label and classes"):
        Cifar10(tmp_path, "test")
    write_cifar(path)
    with pytest.raises(ZooError, match="`size=64` is not offered"):
        load("cifar10", "test", data_dir=tmp_path, size=64)
    with h5py.File(path, "r+") as file:
        start = int(file["offset"][2])
        file["jpeg"][start : start + 20] = 0
        file["label"][5] = 3
    with pytest.raises(ZooError, match="has label 3, but lists 3 classes"):
        Cifar10(tmp_path, "test")
    with h5py.File(path, "r+") as file:
        file["label"][5] = 2
    data = Cifar10(tmp_path, "test")
    assert data[1][1] == 1
    with pytest.raises(ZooError, match=r"test\.h5, row 2, is no readable image"):
        data[2]
    write_cifar(path, size=30)
    with pytest.raises(ZooError, match="row 0, is 30 x 30, not 32 x 32"):
        Cifar10(tmp_path, "test")[0]
    for offset in ([0, 5, 3], [1, 5, 9], [0, 5]):
        with h5py.File(path, "w") as file:
            file["jpeg"], file["offset"], file["label"] = np.zeros(9, np.uint8), offset, [0, 1]
            file.attrs["classes"] = NAMES
        with pytest.raises(ZooError, match="offset does not divide jpeg into 2 images"):
            Cifar10(tmp_path, "test")
