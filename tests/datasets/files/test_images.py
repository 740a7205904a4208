"""Every mode in which Pillow opens a file, against arithmetic on the numbers that were written and torchvision."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS, default_loader

from zoo.datasets.files import IMAGE_SUFFIXES, open_image
from zoo.datasets.imagenet import ImageNet
from zoo.errors import ZooError

RAMP = np.linspace(0, 65535, 64 * 64).reshape(64, 64)


def opened(path: Path, mode: str) -> np.ndarray:
    """The pixels of a file that Pillow opens in `mode`."""
    with Image.open(path) as stored:
        assert stored.mode == mode
    image = open_image(path, str(path))
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def grey(pixels: np.ndarray) -> np.ndarray:
    """The one channel of three that are alike."""
    assert (pixels == pixels[:, :, :1]).all()
    return pixels[:, :, 0]


def write_tiff(path: Path, rows: np.ndarray, *, bits: int, sample_format: int = 1, photometric: int = 1) -> None:
    """An uncompressed grey TIFF, little-endian, of packed rows uint8 (H, bytes); a pixel has `bits`."""
    height, width = rows.shape[0], rows.shape[1] * 8 // bits
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    tags += [(279, rows.size), (339, sample_format)]
    data = rows.astype(np.uint8).tobytes()
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "big.tif", "a.pgm", "part.pgm", "int32.tif", "a.jp2"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, name: str) -> None:
    path, values = tmp_path / name, RAMP.astype(np.uint16)
    mode, top = "I;16", 65535
    if name == "big.tif":
        Image.frombytes("I;16B", (64, 64), values.astype(">u2").tobytes()).save(path)
        mode = "I;16B"
    elif name == "part.pgm":  # a maxval of 10 bits
        top, mode = 1023, "I"
        values = values // 64
        path.write_bytes(b"P5 64 64 1023\n" + values.astype(">u2").tobytes())
    elif name == "int32.tif":
        mode = "I"
        Image.fromarray(values.astype(np.int32), "I").save(path)
    else:
        mode = "I" if name == "a.pgm" else mode
        Image.fromarray(values).save(path, **({"irreversible": False} if name == "a.jp2" else {}))
    found = grey(opened(path, mode))
    assert np.abs(found - values * (255 / top)).max() <= 0.51
    assert found.mean() == pytest.approx(127.5, abs=0.5)


def test_the_bits_that_a_tiff_uses_count(tmp_path: Path) -> None:
    """Twelve bits, packed: 4095 is white."""
    values = (RAMP / 16).astype(int)
    first, second = values[:, ::2], values[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2).reshape(64, -1)
    write_tiff(tmp_path / "a.tif", packed, bits=12)
    assert np.abs(grey(opened(tmp_path / "a.tif", "I;16")) - values * 255 / 4095).max() <= 0.51


def test_white_may_be_zero(tmp_path: Path) -> None:
    values = RAMP.astype("<u2")
    write_tiff(tmp_path / "a.tif", values.view(np.uint8), bits=16, photometric=0)
    assert np.abs(grey(opened(tmp_path / "a.tif", "I;16")) - (255 - values / 257)).max() <= 0.51


def test_integers_of_32_bits_are_what_they_fit_into_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray((RAMP / 257).astype(np.int32), "I").save(path)
    assert (grey(opened(path, "I")) == (RAMP / 257).astype(int)).all()
    for values, message in [(RAMP * 1000, "from 0 to 6.5535e[+]07"), (RAMP - 700, "from -700 to 64835")]:
        Image.fromarray(values.astype(np.int32), "I").save(path)
        with pytest.raises(ZooError, match=rf"^a\.tif holds numbers {message}, where .* integers from 0 to 65535"):
            open_image(path, "a.tif")


def test_floats_run_from_0_to_1_or_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray((RAMP / 65535).astype(np.float32)).save(path)
    found = grey(opened(path, "F"))
    assert np.abs(found - RAMP * 255 / 65535).max() <= 0.51
    for values in (RAMP / 257, RAMP / 65535 - 0.5, np.full((4, 4), np.nan), np.full((4, 4), np.inf)):
        Image.fromarray(values.astype(np.float32)).save(path)
        with pytest.raises(ZooError, match=r"^a\.tif holds numbers .* a grey image has floats from 0 to 1; scale them"):
            open_image(path, "a.tif")


def like_torchvision(path: Path, mode: str) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a palette with transparency
        expected = np.asarray(default_loader(str(path))).astype(int)
    found = opened(path, mode)
    assert (found == expected).all()
    return found


def test_other_modes_are_as_torchvision_gives_them(tmp_path: Path) -> None:
    level = (RAMP / 257).astype(np.uint8)
    image = Image.fromarray(level)
    colours = Image.merge("RGB", (image, image.transpose(Image.Transpose.ROTATE_90), image))
    path = tmp_path / "a.png"

    image.convert("1").save(path)
    assert set(np.unique(grey(like_torchvision(path, "1")))) == {0, 255}
    image.save(path)
    assert (grey(like_torchvision(path, "L")) == level).all()
    Image.merge("LA", (image, image)).save(path)
    assert (grey(like_torchvision(path, "LA")) == level).all()  # alpha is dropped, not blended
    colours.putalpha(image)
    colours.save(path)
    assert (like_torchvision(path, "RGBA")[:, :, 0] == level).all()

    palette = Image.fromarray(np.array([[0, 1, 2, 1]], dtype=np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for transparency in ({}, {"transparency": 1}, {"transparency": bytes([0, 128, 255])}):
        palette.save(path, **transparency)
        right = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 255, 0]]
        assert like_torchvision(path, "P")[0].tolist() == right
    palette.save(tmp_path / "a.gif", transparency=1)
    like_torchvision(tmp_path / "a.gif", "P")

    cmyk = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    cmyk.save(tmp_path / "a.tif")
    assert like_torchvision(tmp_path / "a.tif", "CMYK")[3, 3].tolist() == [0, 255, 255]
    cmyk.save(tmp_path / "a.jpg", quality=100)
    assert np.abs(like_torchvision(tmp_path / "a.jpg", "CMYK")[3, 3] - [0, 255, 255]).max() < 4
    Image.new("LAB", (16, 16), (128, 128, 128)).save(tmp_path / "lab.tif")
    like_torchvision(tmp_path / "lab.tif", "LAB")
    Image.new("YCbCr", (16, 16), (128, 90, 200)).save(tmp_path / "ycc.jpg")
    like_torchvision(tmp_path / "ycc.jpg", "RGB")


def test_the_orientation_in_exif_is_left_as_torchvision_leaves_it(tmp_path: Path) -> None:
    image, exif = Image.fromarray((RAMP[:32] / 257).astype(np.uint8)).convert("RGB"), Image.Exif()
    exif[0x0112] = 6  # to be rotated by 90 degrees
    image.save(tmp_path / "a.jpg", exif=exif)
    assert like_torchvision(tmp_path / "a.jpg", "RGB").shape == (32, 64, 3)


def test_a_file_object_is_read_too() -> None:
    stream = io.BytesIO()
    Image.fromarray(RAMP.astype(np.uint16)).save(stream, "png")
    assert np.asarray(open_image(stream, "row 3")).mean() == pytest.approx(127.5, abs=0.5)
    with pytest.raises(ZooError, match=r"^row 3 is no readable image"):
        open_image(io.BytesIO(b"none"), "row 3")


def test_a_data_set_takes_the_files_that_imagefolder_takes(tmp_path: Path) -> None:
    assert set(IMG_EXTENSIONS) == IMAGE_SUFFIXES
    (tmp_path / "val" / "n1").mkdir(parents=True)
    Image.fromarray(np.full((16, 16), 32768, np.uint16)).save(tmp_path / "val" / "n1" / "a.TIFF")
    data = ImageNet(tmp_path, "test", size=16, mean=(0, 0, 0), std=(1, 1, 1))
    assert data[0][0].unique().tolist() == pytest.approx([128 / 255])
