"""Whether the zoo has an entry, and whether a command made it: what `benchmarks/train_all.sh` asks before each one.

    python benchmarks/made.py NAME zoo train dgcnn --dataset modelnet10 --points 512 --epochs 10

Ends with 0 if the command made it, with 3, printing the card's command, if another one did (5 if that entry is shipped
with the package), with 4 if there is none. A card's command says all settings: it is this one if everything
typed here stands in it. What a mirror (ZOO_MIRROR) has, made by this very command, is downloaded: that is 0 too.

    python benchmarks/made.py --to-publish MIRROR NAME...

prints those of these entries, on one line, that are the user's own and not in the folder MIRROR as they are.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from zoo import mirrors, store
from zoo.errors import ZooError
from zoo.recipes import recipe_for


def settings(words: Sequence[str]) -> dict[str, tuple[str | float, ...]]:
    """The values behind every option; the words in front of the first option stand under the empty name."""
    found: dict[str, tuple[str | float, ...]] = {"": ()}
    option = ""
    for word in words:
        if word.startswith("--"):
            option = word
            found[option] = ()
        else:
            found[option] += (_value(word),)
    return found


# What a command fills in where it is not typed.
FILLED = {"--name", "--dataset", "--points", "--size", "--mean", "--std", "--images", "--lr", "--batch-size", "--seed"}


def same(typed: Sequence[str], recorded: str) -> bool:
    """Whether a card's command says what is typed, and beyond that only what the command fills in."""
    asked, there = settings(typed), settings(shlex.split(recorded))
    filled = {option: values for option, values in there.items() if option not in asked}
    if any(there.get(option) != values for option, values in asked.items()) or filled.keys() - FILLED:
        return False
    (_, kind, name, *_), (dataset,) = asked[""], there.get("--dataset", ("",))
    if kind != "train":
        return filled.get("--seed", (0.0,)) == (0.0,)
    recipe = recipe_for("train", str(name), str(dataset))
    usual = {"--seed": (0.0,), "--lr": (recipe.lr,), "--batch-size": (float(recipe.batch_size),)}
    return all(filled.get(option, values) == values for option, values in usual.items())


LARGEST = 50e6  # bytes of a file, beyond which GitHub warns


def to_publish(entries: Iterable[str], mirror: Path) -> Iterator[str]:
    """The names of those that lie in the user's own zoo and in the mirror not, or as another; what is too large for a
    repository is named on standard error instead."""
    for name in entries:
        place, published = store.own() / f"{name}.json", mirror / f"{name}.json"
        if not place.exists() or (store.shipped() / place.name).exists():
            continue
        card = store.read_card(place)
        if published.exists() and published.read_bytes() == card.to_json().encode():
            continue
        if card.saved.size > LARGEST:
            size = f"{card.saved.size / 1e6:.0f} MB"
            print(f"== {name} has {size}: too large for {mirror.name}/ as well", file=sys.stderr)
            continue
        yield name


def _value(word: str) -> str | float:
    try:
        return float(word)  # 300000 and 300000.0 are one target
    except ValueError:
        return word


def main(name: str, command: Sequence[str]) -> int:
    for folder, otherwise in ((store.shipped(), 5), (store.own(), 3)):
        place = folder / f"{name}.json"
        if place.exists():
            recorded = str(store.read_card(place).recipe["command"])
            if same(command, recorded):
                return 0
            print(recorded)
            return otherwise
    return 0 if fetched(name, command) else 4


def fetched(name: str, command: Sequence[str]) -> bool:
    """Whether a mirror has the entry, made by this command; then it is on this machine."""
    card = store.cards(mirrors.mirrors()).get(name)
    if card is None or not same(command, str(card.recipe.get("command", ""))):
        return False
    store.download(name)
    return True


if __name__ == "__main__":
    publishing = sys.argv[1:2] == ["--to-publish"]
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        if publishing:
            print(*to_publish(sys.argv[3:], Path(sys.argv[2])))
            sys.exit()
        sys.exit(main(sys.argv[1], sys.argv[2:]))
    except ZooError as error:
        sys.exit(f"Error: {error}")
