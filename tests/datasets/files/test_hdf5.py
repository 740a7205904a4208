"""HDF5 files of other people: what is packed in every usual way is read as h5py reads it; what lies is refused."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from fuzzing import CASES, fuzz, measured_peak, through_file

from zoo.datasets.cifar import Cifar10
from zoo.datasets.files import child, hdf5, open_hdf5
from zoo.datasets.modelnet import MODELNET10, ModelNet10
from zoo.errors import ZooError

PACKED = {
    "contiguous": {},
    "chunks": {"chunks": (4, 5, 3)},
    "gzip": {"chunks": (4, 5, 3), "compression": "gzip"},
    "all filters": {"chunks": (4, 5, 2), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "a chunk larger than the data": {"chunks": (64, 64, 64), "maxshape": (None, None, None), "compression": "gzip"},
    "one unlimited axis": {"chunks": (7, 5, 3), "maxshape": (None, 11, 3), "fletcher32": True},
}


@pytest.mark.parametrize("version", [None, "latest"])
@pytest.mark.parametrize("packed", PACKED)
def test_arrays_are_what_was_written(tmp_path: Path, packed: str, version: str | None) -> None:
    for kind in ("<f4", ">f4", "f8", "u1", "i8", "f2"):
        values = (np.random.default_rng(0).normal(size=(10, 11, 3)) * 50).astype(kind)
        with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
            file.create_dataset("data", data=values, **PACKED[packed])
        with open_hdf5(tmp_path / "a.h5", "") as stored:
            found = stored.array("data")
        assert found.dtype == values.dtype
        assert (found == values).all()


def test_texts_are_what_was_written(tmp_path: Path) -> None:
    for words in (["a", "bé"], np.array([b"one", b"three"])):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.attrs["classes"] = words
        with open_hdf5(tmp_path / "a.h5", "") as stored:
            assert stored.strings("classes") == [word if isinstance(word, str) else word.decode() for word in words]


def folder(root: Path) -> Path:
    """Lists of one HDF5 file of each split, and the file of the test split, still to be written."""
    (root / "shape_names.txt").write_text("\n".join(MODELNET10))
    (root / "test_files.txt").write_text("a.h5\n")
    return root / "a.h5"


CLOUDS, LABELS = (
    np.random.default_rng(0).normal(size=(4, 8, 3)).astype(np.float32),
    np.arange(4, dtype=np.uint8)[:, None],
)
COMPOUND = np.zeros(4, [("a", "u1"), ("b", "f4")])
TEXTS = np.array([b"one", b"two", b"three", b"four"])


@pytest.mark.parametrize(
    ("data", "label", "message"),
    [
        (CLOUDS, TEXTS, "label holds .S5 .*integers or floats were expected"),
        (CLOUDS, COMPOUND, "label holds .*'a'.*integers or floats were expected"),
        (CLOUDS, np.array([0, 1, 2, np.nan]), "has label nan, but shape_names.txt lists 10 classes"),
        (CLOUDS, np.array([0, 1, 2, np.inf]), "has label inf, but"),
        (CLOUDS, np.array([0, 1, 2, 0.5]), "has label 0.5, but"),
        (CLOUDS, np.array([0, 1, 2, -5]), "has label -5, but"),
        (CLOUDS, np.array([0, 1, 2, 2**64 - 1], np.uint64), "has label 18446744073709551615, but"),
        (CLOUDS, np.zeros((2, 2)), r"has label \(2, 2\); expected \(n, 1\)"),
        (CLOUDS, np.zeros((4, 1, 1)), r"has label \(4, 1, 1\); expected \(n, 1\)"),
        (CLOUDS, np.zeros(()), r"has label \(\); expected \(n, 1\)"),
        (CLOUDS, np.array([True, False, True, True]), "label holds bool"),
        (CLOUDS.astype(complex), LABELS, "data holds complex128"),
        (np.zeros((4, 8, 3), "longdouble"), LABELS, "data holds float128"),
        (CLOUDS[:, :0], LABELS, r"has data \(4, 0, 3\)"),
        (np.full((4, 8, 3), 3e38), LABELS, "row 0, holds NaN, infinite coordinates, or some beyond"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path: Path, data: np.ndarray, label: np.ndarray, message: str) -> None:
    path = folder(tmp_path)
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = data, label
    with pytest.raises(ZooError, match=rf"a\.h5.*{message}"):
        ModelNet10(tmp_path, "test", points=8)


def test_whole_floats_are_labels(tmp_path: Path) -> None:
    with h5py.File(folder(tmp_path), "w") as file:
        file["data"], file["label"] = CLOUDS, LABELS.astype(np.float64)
    assert [label for _, label in ModelNet10(tmp_path, "test", points=8)] == [0, 1, 2, 3]


def external(file: h5py.File, secret: Path) -> None:
    file.create_dataset("data", (4, 8, 3), "f4", external=[(str(secret), 0, 4 * 8 * 3 * 4)])


def linked(file: h5py.File, secret: Path) -> None:
    file["data"] = h5py.ExternalLink(str(secret), "data")


def through_a_link(file: h5py.File, secret: Path) -> None:
    file["there"], file["data"] = h5py.ExternalLink(str(secret), "/"), h5py.SoftLink("/there/data")


def virtual(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((4, 8, 3), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "data", (4, 8, 3))
    file.create_virtual_dataset("data", layout)


def loop(file: h5py.File, _: Path) -> None:
    file["other"], file["data"] = h5py.SoftLink("/data"), h5py.SoftLink("/other")


def group(file: h5py.File, _: Path) -> None:
    file.create_group("data")


def empty(file: h5py.File, _: Path) -> None:
    file["data"] = h5py.Empty("f4")


def declared(file: h5py.File, _: Path) -> None:
    file.create_dataset("data", (10**9, 2048, 3), "f4")  # 22 TiB


def unwritten(file: h5py.File, _: Path) -> None:
    file.create_dataset("data", (4, 8, 3), "f4")


def partly_written(file: h5py.File, _: Path) -> None:
    file.create_dataset("data", (4, 8, 3), "f4", chunks=(2, 8, 3))[:2] = 1


def bomb(file: h5py.File, _: Path) -> None:
    file.create_dataset("data", data=np.zeros((4, 2**21, 3), "f4"), chunks=(4, 2**21, 3), compression="gzip")


def large_chunk(file: h5py.File, _: Path) -> None:
    data = file.create_dataset("data", (4, 8, 3), "f4", chunks=(4, 2**24, 3), maxshape=(4, None, 3), compression="gzip")
    data.id.write_direct_chunk((0, 0, 0), b"nothing")


def other_filter(file: h5py.File, _: Path) -> None:
    file.create_dataset("data", data=CLOUDS, chunks=True, compression="lzf")


def longer_chunk(file: h5py.File, _: Path) -> None:
    import zlib

    data = file.create_dataset("data", (4, 8, 3), "f4", chunks=(4, 8, 3), compression="gzip")
    data.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(2**26)))  # 64 MiB where 384 bytes belong


def empty_chunk(file: h5py.File, _: Path) -> None:
    data = file.create_dataset("data", (4, 8, 3), "f4", chunks=(4, 8, 3), fletcher32=True)
    data.id.write_direct_chunk((0, 0, 0), b"abcd")  # nothing but a checksum


def many_chunks(file: h5py.File, _: Path) -> None:
    file.create_dataset("data", data=np.zeros((4, 1100, 3), "f4"), chunks=(1, 1, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (many_chunks, "data lies in 8800 parts; write it in one: h5repack -f NONE -l CONTI IN OUT"),
        (external, "data lies in other files"),
        (linked, "data is a link"),
        (through_a_link, "data is a link"),
        (virtual, "data lies in other files"),
        (loop, "data is a link"),
        (group, "data is a group"),
        (empty, "data holds float32 None"),
        (declared, "data .* has 24576000000000 bytes, many more than the file"),
        (unwritten, "data was declared, and never written"),
        (partly_written, r"not written to its end: the part at \(2, 0, 0\)"),
        (bomb, "bytes, many more than the file"),
        (large_chunk, "many more than the file"),
        (other_filter, "packed by filter 32000; pack it by gzip: h5repack"),
        (longer_chunk, "has 392 bytes, and 384 were expected"),
        (empty_chunk, "a checksum does not fit|has 0 bytes"),
    ],
)
def test_files_that_lead_elsewhere_or_claim_too_much_are_refused(
    tmp_path: Path, make: Callable[[h5py.File, Path], None], message: str
) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["data"] = CLOUDS
    path = folder(tmp_path)
    with h5py.File(path, "w") as file:
        make(file, secret)
        file["label"] = LABELS
    with (
        measured_peak() as grown,
        pytest.raises(ZooError, match=rf"cannot read .*a\.h5 as HDF5 with data .*: .*{message}"),
    ):
        ModelNet10(tmp_path, "test", points=8)
    assert grown[0] < 2**26


def test_a_damaged_checksum_is_found(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("data", data=CLOUDS, chunks=(4, 8, 3), fletcher32=True)
        file.flush()
        start = data.id.get_chunk_info(0).byte_offset
    content = bytearray((tmp_path / "a.h5").read_bytes())
    content[start + 5] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    with (
        pytest.raises(ZooError, match=r"^a broken file: a checksum does not fit"),
        open_hdf5(tmp_path / "a.h5", "a broken file") as file,
    ):
        file.array("data")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    path = folder(tmp_path)
    os.mkfifo(path)
    with pytest.raises(ZooError, match=r"cannot read .*a\.h5: it is no ordinary file"):
        ModelNet10(tmp_path, "test")
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ZooError, match=r"cannot read .*a\.h5: it is no ordinary file"):
        ModelNet10(tmp_path, "test")


def test_a_list_names_every_file_once_and_none_outside(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = folder(tmp_path / "data")
    for place in (path, tmp_path / "outside.h5"):
        with h5py.File(place, "w") as file:
            file["data"], file["label"] = CLOUDS, LABELS
    listed = tmp_path / "data" / "test_files.txt"
    listed.write_text("a.h5\n/elsewhere/data/a.h5\n")
    with pytest.raises(ZooError, match=r"test_files\.txt lists a\.h5 more than once"):
        ModelNet10(tmp_path / "data", "test", points=8)
    for line in (str(tmp_path / "outside.h5"), "../outside.h5", r"..\outside.h5", "x/../../outside.h5"):
        listed.write_text(line)
        with pytest.raises(ZooError, match=r"cannot read .*data/outside\.h5: No such file"):
            ModelNet10(tmp_path / "data", "test", points=8)


NUMBERED = itertools.count()


def samples(make: Callable[[h5py.File], None], root: Path) -> list[bytes]:
    """Whole files as bytes: contiguous, packed, and with the newest structures."""
    found = []
    for version, packed in itertools.product(
        (None, "latest"), ("contiguous", "gzip", "all filters", "one unlimited axis")
    ):
        path = root / f"{next(NUMBERED)}.h5"
        with h5py.File(path, "w", libver=version) as file:
            make(file, PACKED[packed])
        found.append(path.read_bytes())
    return found


def clouds(ram: Path, tmp_path: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """A reader of a file of clouds, and files that it takes."""

    def make(file: h5py.File, packed: dict[str, object]) -> None:
        file.create_dataset("data", data=np.random.default_rng(0).normal(size=(10, 11, 3)).astype("f4"), **packed)
        file["label"] = np.arange(10, dtype="u1")[:, None]

    path = folder(ram)
    return through_file(path, lambda _: ModelNet10(ram, "test", points=11)), samples(make, tmp_path)


@pytest.mark.parametrize("cases", CASES)
def test_no_cloud_file_harms(ram: Path, tmp_path: Path, cases: int) -> None:
    fuzz(*clouds(ram, tmp_path), cases)


def test_a_chunk_of_251_bytes_and_elsewhere_in_the_file_of_4_gib_takes_no_memory(ram: Path, tmp_path: Path) -> None:
    fuzz(*clouds(ram, tmp_path), 1, first=49025)


@pytest.mark.parametrize("cases", CASES)
def test_no_file_of_images_harms(ram: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cases: int) -> None:
    def make(file: h5py.File, packed: dict[str, object]) -> None:
        options = {key: value for key, value in packed.items() if key not in ("chunks", "maxshape")}
        file.create_dataset("jpeg", data=np.arange(90, dtype="u1"), **options, chunks=(20,) if packed else None)
        file["offset"], file["label"] = np.arange(0, 91, 30), np.zeros(3, "u1")
        file.attrs["classes"] = ["a", "b"]

    monkeypatch.setattr(hdf5, "in_child", lambda *_: ["a", "b"])  # a process for each case would take hours
    fuzz(through_file(ram / "test.h5", lambda _: Cifar10(ram, "test")), samples(make, tmp_path), cases)


def test_texts_on_which_hdf5_hangs_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_SECONDS", 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["classes"] = ["a", "b"]
    content = bytearray((tmp_path / "a.h5").read_bytes())
    length = content.index(b"GCOL") + 24  # of the first text in the heap
    content[length : length + 8] = bytes(8)
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(ZooError, match=r"^no classes: its reader was stopped after 3 s"):  # noqa: SIM117
        with open_hdf5(tmp_path / "a.h5", "no classes") as stored:
            stored.strings("classes")
