"""Several processes at work on one entry, some of them killed: a script, which imports no torch, so that it can fork.

    python entry_race.py FOLDER PROCESSES ROUNDS BYTES

In each round so many processes, and one reader, do at the same moment one thing each with the entry net.shapes of one
folder: they write different versions of it, remove it, clean or publish it. After each round the entry is whole and
nothing else is left, and every reader has got a whole one. In every second round some of the processes are killed.
Prints what was done as JSON.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import signal
import sys
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from store_entries import make, write_index

from zoo import store
from zoo.cards import Card
from zoo.errors import ZooError
from zoo.store import folders
from zoo.store.transaction import recover

T = TypeVar("T")
NAME = "net.shapes"
GONE = (  # what a command says that comes after another process has removed or replaced the entry
    "was replaced meanwhile and is kept", "was not downloaded", "the zoo is empty", "you have no entries of your own",
    "holds no checkpoint", "no model 'net.shapes'", "holds another net.shapes than",
)  # fmt: skip
FOLDERS = {
    "own": "own home/own", "removed": "removed home/own", "cache": "cache home/cache", "to": "to", "public": "public",
}  # fmt: skip


class Race:
    """`homes` are zoos that have one version each as the user's own, as a mirror and as a bundle."""

    def __init__(self, root: Path, processes: int, size: int) -> None:
        self.root, self.processes = root, processes
        self.counts: Counter[str] = Counter()
        self.chance = random.Random(0)
        self.longest = 0.0  # seconds of a round without kills
        folders.PACKAGE_DIR, folders.CLONE_MIRROR = root / "shipped", root / "no clone"
        self.homes = [root / str(number) for number in range(processes)]
        self.cards = []
        for number, home in enumerate(self.homes):
            content = random.Random(number).randbytes(size)
            make(home / "mirror", NAME, content)
            write_index(home / "mirror")
            self.cards.append(make(home / "own", NAME, content))
            os.environ["ZOO_HOME"] = str(home)
            store.bundle([NAME], home / "bundle.zip")
        store.publish(root / "public")
        for kind in ("own", "to"):
            store.copy_entry(home / "own" / self.cards[-1].saved.name, self.cards[-1], root / FOLDERS[kind])

    def run(self, rounds: int) -> None:
        for number in range(rounds):
            kind = list(FOLDERS)[number % len(FOLDERS)]
            os.environ["ZOO_HOME"] = str(self.root / f"{kind} home")
            kills = number // len(FOLDERS) % 2 == 1
            acts = [("reader", lambda kind=kind: self.read(kind)), *(self.act(kind, i) for i in range(self.processes))]
            self.round(acts, kills=kills)
            self.check(kind, kills=kills)
            self.counts["rounds"] += 1

    def act(self, kind: str, number: int) -> tuple[str, Callable[[], object]]:
        """What one process does in a round, and its name."""
        home, card = self.homes[number], self.cards[number]
        source = home / "own" / card.saved.name
        if kind == "own" or (kind == "removed" and self.chance.random() < 0.6):
            return "replace", lambda: store.copy_entry(source, card, overwrite=True)
        if kind == "removed":
            return "remove", lambda: [store.remove(each) for each in store.user_entries([NAME])]
        if kind == "to":
            return "download --to", lambda: at(home, lambda: store.download(NAME, to=self.root / "to", overwrite=True))
        if kind == "public":
            return "publish", lambda: at(home, lambda: store.publish(self.root / "public", overwrite=True))
        acts: list[tuple[str, Callable[[], object]]] = [
            ("install", lambda: store.install(home / "bundle.zip")),
            ("download", lambda: store.download(NAME, mirror=home / "mirror")),
            ("clean", lambda: store.clean_cache([NAME])),
            ("bundle", lambda: self.bundle(home)),
        ]
        return self.chance.choice(acts)

    def bundle(self, home: Path) -> None:
        (card,) = store.bundle([NAME], home / "made.zip", mirror=[str(home / "mirror")], overwrite=True)
        with zipfile.ZipFile(home / "made.zip") as made:
            assert hashlib.sha256(made.read(card.saved.name)).hexdigest() == card.saved.sha256

    def read(self, kind: str) -> None:
        """Get the entry several times as `zoo.get` does; it is whole, or there is none."""
        folder = self.root / FOLDERS[kind]

        def find() -> tuple[Path, Card | None]:
            if kind == "public":
                return at(self.root / "reader", lambda: store.fetch(NAME, mirror=[str(folder)]))
            return store.checkpoint_at(folder) if kind == "to" else store.fetch(NAME)

        def use(path: Path, card: Card | None) -> None:
            data = path.read_bytes()
            assert card in self.cards, card
            assert card is not None
            assert hashlib.sha256(data).hexdigest() == card.saved.sha256

        for _ in range(5):
            if kind == "public":
                at(self.root / "reader", lambda: store.clean_cache(everything=True))
            store.reading(find, use)

    def round(self, acts: list[tuple[str, Callable[[], object]]], *, kills: bool) -> None:
        """Let a process do each of the acts, all at the same moment; kill some at random moments."""
        gate, opened = os.pipe()
        children = {start(act, gate, opened): name for name, act in acts}
        os.close(gate)
        begin = time.monotonic()
        os.close(opened)
        self.counts.update(children.values())
        killed = []
        if kills:
            for pid in self.chance.sample(sorted(children), self.chance.choice([1, len(children)])):
                time.sleep(self.chance.uniform(0, self.longest / 2 / len(children)))
                os.kill(pid, signal.SIGKILL)  # nobody has waited for it yet, so that it is not another one's number
                killed.append(pid)
        for pid, name in children.items():
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            self.counts["killed"] += status == -signal.SIGKILL
            assert status == 0 or (status == -signal.SIGKILL and pid in killed), f"{name} ended with {status}"
        if not kills:
            self.longest = max(self.longest, time.monotonic() - begin)

    def check(self, kind: str, *, kills: bool) -> None:
        """The folder holds one whole entry, and nothing besides; after kills once the next command has run."""
        folder = self.root / FOLDERS[kind]
        self.whole(folder)
        if kills:
            before = set(os.listdir(folder))
            recover(folder)
            if kind == "cache":
                store.clean_cache()  # a download that was broken off is kept for the next one to go on with
            self.counts["rounds that left something to clear"] += before != set(os.listdir(folder))
        cards = self.whole(folder)
        assert cards or kind in ("removed", "cache"), f"the entry of {kind} is gone"
        files = {name for card in cards for name in (f"{NAME}.json", card.saved.name)}
        there = set(os.listdir(folder)) if folder.exists() else set()
        assert there == files | ({"index.json"} if kind == "public" else set()), (kind, kills, sorted(there))

    def whole(self, folder: Path) -> list[Card]:
        """The card of the entry in a folder, if there is one, whose checkpoint is whole."""
        if not (folder / f"{NAME}.json").exists():
            return []
        card = store.read_card(folder / f"{NAME}.json")
        assert card in self.cards
        store.verify_file(folder / card.saved.name, card)
        return [card]


def start(act: Callable[[], object], gate: int, opened: int) -> int:
    """A process that waits at the gate and then does it; its number."""
    if pid := os.fork():
        return pid
    status = 1
    try:
        logging.getLogger("zoo").addFilter(refuse_broken)
        os.close(opened)
        os.read(gate, 1)  # until it is closed everywhere
        act()
        status = 0
    except ZooError as error:
        status = 0 if any(words in str(error) for words in GONE) else 1
        if status:
            traceback.print_exc()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def refuse_broken(record: logging.LogRecord) -> bool:
    assert "cannot be used" not in record.getMessage(), record.getMessage()
    return "takes its place" not in record.getMessage()


def at(home: Path, act: Callable[[], T]) -> T:
    """Do it in a zoo; the process has no other afterwards."""
    os.environ["ZOO_HOME"] = str(home)
    return act()


if __name__ == "__main__":
    race = Race(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[4]))
    begun = time.monotonic()
    race.run(int(sys.argv[3]))
    print(json.dumps({**race.counts, "seconds": round(time.monotonic() - begun, 1), "longest": race.longest}))
