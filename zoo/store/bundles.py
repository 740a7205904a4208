"""Bundles: entries in one zip file, to carry them to a machine without a network.

A bundle is a mirror in a file: the same index, cards and checkpoints, uncompressed and without dates, so that the same
entries give the same bytes. ``--mirror file.zip`` reads one as well.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from zoo.cards import Card
from zoo.errors import ZooError
from zoo.store import mirrors
from zoo.store.folders import cache_dir, package_dir, user_dir
from zoo.store.signatures import SignatureError, Signer
from zoo.store.store import cards, fetch, reading
from zoo.store.transaction import card_in
from zoo.store.verify import read_card
from zoo.transfer import FetchError, local_path
from zoo.utils import expand_path, new_file

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip file can state


def bundle(
    names: Sequence[str], out: Path, *, mirror: Sequence[str] | None = None, overwrite: bool = False,
    sign: Signer | None = None,
) -> list[Card]:  # fmt: skip
    """Write entries into the zip file ``out``, and return their cards by name.

    An entry that is not on this machine is downloaded first, as by `zoo.store.download`. ``sign`` is the key that the
    bundle is signed with.

    Raises:
        ZooError: an entry does not exist or is damaged; ``out`` exists and ``overwrite`` is off, or cannot be written.
    """
    out = local_path(out)
    if out.suffix != ".zip":
        raise ZooError(f"a bundle's name ends in .zip; got {out.name}")
    if out.exists() and not overwrite:
        raise ZooError(f"{out} exists already: give another name, or replace it with `overwrite=True`")
    entries = {card.name: (path, card) for path, card in (fetch(name, mirror=mirror) for name in names)}
    written = []
    with new_file(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        texts = {name: card.to_json().encode() for name, (_, card) in entries.items()}
        index = mirrors.index_bytes(entries, texts if sign else None)
        archive.writestr(_member(mirrors.INDEX), index)
        if sign:
            archive.writestr(_member(mirrors.SIGNATURE), sign.sign(mirrors.INDEX, index))
        for name in sorted(entries):
            source, card = _opened(*entries[name], mirror)
            if sign and card.to_json().encode() != texts[name]:
                raise ZooError(f"{name} was replaced while {out} was signed: try again")
            archive.writestr(_member(f"{name}.json"), card.to_json())
            with source, archive.open(_member(card.saved.name, card.saved.size), "w") as member:
                shutil.copyfileobj(source, member)
            written.append(card)
    return written


def _opened(path: Path, card: Card, mirror: Sequence[str] | None) -> tuple[BinaryIO, Card]:
    """The checkpoint of an entry, opened so that no other process takes it away, and its card, of today if it has."""
    try:
        return open(path, "rb"), card
    except FileNotFoundError:
        return reading(lambda: fetch(card.name, mirror=mirror), lambda path, card: (open(path, "rb"), card))


def install(file: Path) -> list[tuple[Card, Path]]:
    """Copy the entries of a bundle among the downloaded ones, each verified; returns their cards and checkpoints.

    An entry that is on this machine already with the same checkpoint is left as it is, as by `zoo.store.download`.

    Raises:
        ZooError: the file is no bundle, or a damaged one (entries that were installed before the error stay); or this
            machine has another entry of that name.
    """
    file = expand_path(file).absolute()
    if not file.is_file():
        raise ZooError(f"there is no file {file}")
    if not zipfile.is_zipfile(file):
        raise ZooError(f"{file} is no bundle: zoo bundle NAME -o file.zip writes one")
    installed = []
    mirror = _open_bundle(file)
    for name in mirror.cards:
        card = mirrors.fetch_card(mirror, name)
        _check_name_free(card, file)
        path, card = fetch(name, mirror=[str(file)])  # leaves what is here
        installed.append((card, path))
    return installed


def _open_bundle(file: Path) -> mirrors.Mirror:
    try:
        return mirrors.open_mirror(str(file))
    except SignatureError as error:
        raise ZooError(f"{file} cannot be installed: {error}") from error
    except FetchError as error:
        raise ZooError(f"{file} is no bundle: {error}") from error


def _check_name_free(card: Card, file: Path) -> None:
    """Raise ZooError where the name of a bundle's entry means another entry on this machine, which stays."""
    cure = f"unpack {file}, and give the path of its {card.saved.name} wherever a NAME is taken"
    for folder in (package_dir(), user_dir()):
        other = folder / f"{card.name}.json"
        if other.exists() and read_card(other).saved != card.saved:
            if folder == user_dir():
                cure = f"rename yours, or remove it: zoo remove {card.name}"
            raise ZooError(f"{file} holds another {card.name} than {folder}: {cure}")
    downloaded = card_in(cache_dir(), card.name)  # None for a broken card, which is replaced
    if downloaded is not None and downloaded.saved != card.saved:
        cure = f"to replace that one remove it first: zoo cache clean {card.name}"
        raise ZooError(f"{file} holds another {card.name} than {cache_dir()}: {cure}")
    if (meant := cards().meaning(card.name)) not in (None, card.name):
        raise ZooError(f"{file} holds an entry {card.name}, and that name means {meant} here: {cure}")


def _member(name: str, size: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EARLIEST)
    info.create_system, info.external_attr, info.file_size = 3, 0o644 << 16, size  # the same on every system
    return info
