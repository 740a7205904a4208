"""A process that changes an entry, killed before each of its calls that change a folder: a script, as entry_race.py.

    python entry_kills.py FOLDER

Prints how many calls each change has, as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from store_entries import make, write_index

from zoo import store
from zoo.cards import Card
from zoo.store import folders
from zoo.store.transaction import recover

NAME = "net.shapes"
CALLS = ("open", "replace", "unlink", "mkdir", "rmdir", "fsync")


def dying(act: Callable[[], object], calls: int) -> bool:
    """Do it in a process that is killed before its call number `calls`; whether it had ended before."""
    if pid := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, 9), status
        return status == 0
    left = calls

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def counting(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return call(*args, **kwargs)

        return counting

    try:
        for call in CALLS:
            setattr(os, call, counted(getattr(os, call)))
        act()
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def whole(folder: Path) -> Card | None:
    """The card of the entry in a folder, if there is one, whose checkpoint is whole."""
    if not (folder / f"{NAME}.json").exists():
        return None
    card = store.read_card(folder / f"{NAME}.json")
    store.verify_file(folder / card.saved.name, card)
    return card


def main(root: Path) -> dict[str, int]:
    folders.PACKAGE_DIR, folders.CLONE_MIRROR = root / "shipped", root / "no clone"
    os.environ["ZOO_HOME"] = str(root / "home")
    own, cache, public = store.user_dir(), store.cache_dir(), root / "public"
    old = make(root / "old", NAME, b"old" * 1000)
    new = make(root / "new", NAME, b"new" * 1000)
    write_index(root / "new")
    shutil.copytree(root / "new", own)
    store.bundle([NAME], root / "new.zip")
    shutil.rmtree(own)
    changes: dict[str, tuple[Path, Path | None, Callable[[], object], tuple[Card | None, ...]]] = {
        # what: the folder, what it holds before, the change, what may be in it after a kill
        "write": (own, None, lambda: store.copy_entry(root / "new" / new.saved.name, new), (None, new)),
        "replace": (
            own, root / "old", lambda: store.copy_entry(root / "new" / new.saved.name, new, overwrite=True), (old, new),
        ),
        "remove": (own, root / "old", lambda: store.remove(old), (None, old)),
        "download": (cache, None, lambda: store.download(NAME, mirror=root / "new"), (None, new)),
        "install": (
            cache, root / "old", lambda: (store.clean_cache([NAME]), store.install(root / "new.zip")), (None, old, new),
        ),
        "clean": (cache, root / "old", lambda: store.clean_cache([NAME]), (None, old)),
        "publish": (public, root / "old", lambda: store.publish(public, overwrite=True), (old, new)),
    }  # fmt: skip
    counts = {}
    for what, (folder, before, change, allowed) in changes.items():
        number, ended = 0, False
        while not ended:
            for each in (own, cache, public):
                shutil.rmtree(each, ignore_errors=True)
            if before is not None:
                shutil.copytree(before, folder)
            if what == "publish":
                shutil.copytree(root / "new", own, ignore=shutil.ignore_patterns("index.json"))
            ended = dying(change, number)
            card = whole(folder)
            assert card in allowed, (what, number, card)
            if folder.exists():
                recover(folder)
                if folder == cache:
                    store.clean_cache()  # a download that was broken off
                files = set() if card is None else {f"{NAME}.json", card.saved.name}
                there = set(os.listdir(folder)) - {"index.json"}
                assert there == files, (what, number, there)
                assert whole(folder) == card
            number += 1
        counts[what] = number - 1
    return counts


if __name__ == "__main__":
    import filelock  # noqa: F401 (modules that are imported open files)
    import tqdm  # noqa: F401

    os.fsync = lambda handle: None  # a kill, unlike a power cut, loses nothing that was written
    print(json.dumps(main(Path(sys.argv[1]))))
