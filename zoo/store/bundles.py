"""Bundles: entries in one zip file, carried to a machine without a network.

A bundle is a mirror in a file: the same index, cards and checkpoints, uncompressed, without dates, so that the same
entries give the same bytes. ``--mirror file.zip`` takes one as well.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from zoo.cards import Card
from zoo.errors import ZooError
from zoo.store import mirrors, store
from zoo.transfer import FetchError
from zoo.utils import expand_path, new_file

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can state


def bundle(names: Sequence[str], out: Path, *, mirror: Sequence[str] | None = None, overwrite: bool = False
           ) -> list[Card]:  # fmt: skip
    """Write entries into one file; what is not on this machine is downloaded first. Returns their cards, by name.

    Raises:
        ZooError: no such entry, a damaged one, a file ``out`` that exists and ``overwrite`` is not given, or one that
            cannot be written.
    """
    out = expand_path(out)
    if out.suffix != ".zip":
        raise ZooError(f"a bundle's name ends in .zip; got {out.name}")
    if out.exists() and not overwrite:
        raise ZooError(f"{out} exists already: give another name, or --overwrite")
    found = {card.name: (card, path) for path, card in (store.fetch(name, mirror=mirror) for name in names)}
    with new_file(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_member(mirrors.INDEX), mirrors.index_of(found))
        for name in sorted(found):
            card, path = found[name]
            archive.writestr(_member(f"{name}.json"), card.to_json())
            with open(path, "rb") as source, archive.open(_member(card.saved.name, card.saved.size), "w") as member:
                shutil.copyfileobj(source, member)
    return [found[name][0] for name in sorted(found)]


def install(file: Path) -> list[tuple[Card, Path]]:
    """Put a bundle's entries among the downloaded ones, each verified like a download; returns them with their places.

    An entry that is on this machine already, with the same checkpoint, stays where it is.

    Raises:
        ZooError: it is no bundle, or a damaged one; what is installed by then stays. Or this machine has another entry
            of that name, shipped or the user's own, which would hide the bundle's.
    """
    file = expand_path(file).absolute()
    if not file.is_file():
        raise ZooError(f"there is no file {file}")
    if not zipfile.is_zipfile(file):
        raise ZooError(f"{file} is no bundle: zoo bundle NAME -o file.zip writes one")
    installed = []
    for name in _listed(file):
        card = mirrors.card(str(file), name)
        for folder in (store.package_dir(), store.user_dir()):
            if (place := folder / f"{name}.json").exists() and store.read_card(place).saved != card.saved:
                raise ZooError(f"{file} holds another {name} than {folder}: rename yours, or remove it: rm '{place}'")
        if store.downloaded(card):  # or not here: a checkpoint without its card is no entry
            path, card = mirrors.bring(name, [str(file)], store.cache_dir())
            store.add(path, card, store.cache_dir(), overwrite=True)
        installed.append((card, store.path_of(card)))
    return installed


def _listed(file: Path) -> list[str]:
    try:
        return mirrors.index(str(file))
    except FetchError as error:
        raise ZooError(f"{file} is no bundle: {error}") from error


def _member(name: str, size: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system, info.external_attr, info.file_size = 3, 0o644 << 16, size  # alike on every system
    return info
