"""What short names of downloaded entries mean: the same as before, whatever is added.

``net`` means the downloaded ``net.shapes``. Then a bundle or a mirror brings ``net.imagenet``, on a more difficult data
set: a note in the folder of downloads keeps ``net`` for ``net.shapes``.
"""

from __future__ import annotations

import json

from zoo.cards import name_stem
from zoo.store.folders import cache_dir
from zoo.utils import locked, new_file, read_json

NOTE = ".short-names.json"


def kept_names() -> set[str]:
    """The full names of downloaded entries that go on being what their short names mean.

    A note that cannot be read keeps none.
    """
    return set(_read().values())


def keep_name(name: str) -> None:
    """Note that the downloaded entry of this full name is what its short name means."""
    with locked(cache_dir(), NOTE):
        note = _read() | {name_stem(name): name}
        with new_file(cache_dir() / NOTE) as out:
            out.write(json.dumps(note, indent=2, sort_keys=True).encode())


def _read() -> dict[str, str]:
    """Short name -> full name."""
    path = cache_dir() / NOTE
    try:
        note = read_json(path)
    except (OSError, ValueError):
        return {}
    pairs = note.items() if isinstance(note, dict) else ()
    return {stem: name for stem, name in pairs if isinstance(name, str) and name.startswith(f"{stem}.")}
