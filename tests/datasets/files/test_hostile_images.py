"""Pictures that run programs, grow when they are unpacked, or are damaged: one error, in little time and memory."""

from __future__ import annotations

import io
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from fuzzing import CASES, fuzz, measured_peak
from PIL import EpsImagePlugin, Image, features

from zoo.datasets.files import open_image
from zoo.datasets.files.images import FORMATS, MAX_PIXELS
from zoo.errors import ZooError

RNG = np.random.default_rng(0)
COLOURS = Image.fromarray(RNG.integers(0, 255, (24, 20, 3), dtype=np.uint8))
DEEP = Image.fromarray(RNG.integers(0, 65535, (24, 20)).astype(np.uint16))
FLOATS = Image.fromarray(RNG.random((24, 20)).astype(np.float32))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def test_no_picture_runs_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow gives an EPS of any name to Ghostscript."""
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", str(ghostscript))
    path = tmp_path / "x.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(
        ZooError, match=r"x\.png is no readable image: it is none of JPEG, PNG, .*; remove or replace it"
    ):
        open_image(path, str(path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", ["AVIF", "DDS", "SPIDER", "ICO", "PCX", "SGI", "TGA", "QOI"])
def test_other_formats_are_refused(form: str) -> None:
    Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {form}")
    picture = encoded(FLOATS if form == "SPIDER" else COLOURS, form)
    with pytest.raises(ZooError, match=r"^a is no readable image: it is none of"):
        open_image(io.BytesIO(picture), "a")


def samples() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    palette, alpha = COLOURS.convert("P"), COLOURS.convert("RGBA")
    two = {"save_all": True, "append_images": [alpha.rotate(90)]}
    found = [
        *(encoded(COLOURS, "JPEG", **options) for options in ({"exif": exif}, {"progressive": True})),
        *(encoded(image, "JPEG") for image in (COLOURS.convert("CMYK"), COLOURS.convert("L"))),
        *(encoded(image, "PNG") for image in (COLOURS, DEEP, alpha)),
        encoded(palette, "PNG", transparency=3),
        *(encoded(image, "BMP") for image in (COLOURS, palette, COLOURS.convert("1"))),
        *(
            encoded(palette, "GIF", **options)
            for options in ({}, {"save_all": True, "append_images": [palette.rotate(90)]})
        ),
        *(encoded(image, "PPM") for image in (COLOURS, COLOURS.convert("L"), DEEP, FLOATS)),
        b"P3 2 2 255\n1 2 3 4 5 6 7 8 9 10 11 12\n",
        *(encoded(image, "TIFF") for image in (COLOURS, DEEP, FLOATS)),
        encoded(DEEP, "JPEG2000"),
    ]
    if features.check("webp"):
        found += [encoded(COLOURS, "WEBP"), encoded(alpha, "WEBP", lossless=True), encoded(alpha, "WEBP", **two)]
    if features.check("libtiff"):
        packings = ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
        found += [encoded(COLOURS, "TIFF", compression=packing) for packing in packings]
        found.append(encoded(COLOURS.convert("1"), "TIFF", compression="group4"))
    return found


def with_checksums(data: bytes) -> bytes:
    """A PNG with the checksums of what its chunks hold now, so that damage gets behind them; others as they are."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    whole, at = bytearray(data), 8
    while at + 12 <= len(whole):
        (length,) = struct.unpack_from(">I", whole, at)
        if (end := at + 8 + length) + 4 > len(whole):
            break
        struct.pack_into(">I", whole, end, zlib.crc32(whole[at + 4 : end]))
        at = end + 4
    return bytes(whole)


@pytest.mark.parametrize("cases", CASES)
def test_no_image_harms(cases: int) -> None:
    fuzz(lambda data: open_image(io.BytesIO(with_checksums(data)), "a"), samples(), cases)


def test_images_that_end_early_are_refused() -> None:
    for sample in samples():
        for part in (0.3, 0.6, 0.9):
            cut = sample[: int(part * len(sample))]
            try:
                with Image.open(io.BytesIO(cut), formats=FORMATS) as image:
                    image.load()
            except Exception:
                with pytest.raises(ZooError, match=r"^a is no readable image: "):
                    open_image(io.BytesIO(cut), "a")


def png(width: int, height: int) -> bytes:
    """A black image of one bit a pixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + -(-width // 8)) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(8125, 8000), (8125, 8001), (60_000, 60_000), (2**31 - 1, 1)])
def test_images_are_bounded_before_they_are_unpacked(size: tuple[int, int]) -> None:
    fits = size[0] * size[1] <= MAX_PIXELS
    data = bytearray(png(*size) if fits else png(8, 8))
    data[16:24] = struct.pack(">II", *size)
    data = io.BytesIO(with_checksums(bytes(data)))
    with measured_peak() as grown:
        if fits:
            assert open_image(data, "a").size == size
        else:
            with pytest.raises(
                ZooError, match=r"^a (has .* pixels, and 65000000 can|is no readable image: .* exceeds)"
            ):
                open_image(data, "a")
    assert grown[0] < (2**29 if fits else 2**24)


def resized(data: bytes, form: str, side: int) -> bytes:
    """The same image, whose header announces side x side pixels."""
    whole = bytearray(data)
    if form == "WEBP":  # of an animation: 24 bits each, less one
        at = data.index(b"VP8X") + 12
        whole[at : at + 6] = (side - 1).to_bytes(3, "little") * 2
    else:
        at = data.index(b"\xff\x51") + 6  # the size of the picture, and of a tile
        whole[at : at + 8] = whole[at + 16 : at + 24] = struct.pack(">II", side, side)
    return bytes(whole)


@pytest.mark.parametrize("form", ["WEBP", "JPEG2000"])
def test_formats_that_take_more_memory_have_smaller_bounds(form: str) -> None:
    options = (
        {"save_all": True, "append_images": [COLOURS.rotate(9)]}
        if form == "WEBP"
        else {"codeblock_size": (4, 4), "no_jp2": True}
    )
    data = encoded(COLOURS.convert("RGBA"), form, **options)
    refused, tried = {"WEBP": (5701, 5700), "JPEG2000": (2016, 2015)}[form]
    with pytest.raises(ZooError, match=rf"^a has {refused} x {refused} pixels, and \d+ can be read of this kind"):
        open_image(io.BytesIO(resized(data, form, refused)), "a")
    with measured_peak() as grown, suppress(ZooError):
        open_image(io.BytesIO(resized(data, form, tried)), "a")
    assert grown[0] < 2**29 + 2**24


def test_a_jpeg_of_many_scans_is_refused_and_a_usual_one_is_not() -> None:
    photo = encoded(Image.new("RGB", (2000, 1500), (9, 99, 200)), "JPEG", progressive=True)
    scan, end = photo.rindex(b"\xff\xda"), photo.rindex(b"\xff\xd9")
    assert open_image(io.BytesIO(photo), "a").size == (2000, 1500)
    with pytest.raises(ZooError, match=r"^a is a JPEG of 2010 scans, which take too long; save it anew"):
        open_image(io.BytesIO(photo[:end] + photo[scan:end] * 2000 + photo[end:]), "a")
    # What follows the end of a picture, as the film of a phone, is no scan.
    assert open_image(io.BytesIO(photo + photo[scan:end] * 2000), "a").size == (2000, 1500)


def test_what_pillow_warns_of_is_not_printed() -> None:
    photo = bytearray(encoded(COLOURS, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(range(40))))
    assert open_image(io.BytesIO(bytes(photo)), "a").size == (20, 24)  # warnings are errors in tests


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "device.png"):
        with pytest.raises(ZooError, match=rf"cannot read .*{name}: it is no ordinary file"):
            open_image(tmp_path / name, name)
