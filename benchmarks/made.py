"""Whether the zoo has an entry, and whether a command made it: what `benchmarks/train_all.sh` asks before each one.

    python benchmarks/made.py NAME zoo train dgcnn --dataset modelnet10 --points 512 --epochs 10

Ends with 0 if the command made it, with 3, printing the card's command, if another one did (5 if that entry is shipped
with the package), with 4 if there is none. A card's command says all settings: it is this one if everything typed here
stands in it and the rest is what it fills in. What was made from an earlier version of its parent than the one that is
here now was made by another command too. What a mirror (ZOO_MIRROR) has, made by this very command, is downloaded: that
is 0 too.

    python benchmarks/made.py --to-publish MIRROR NAME...

prints those of these entries, on one line, that are the user's own and not in the folder MIRROR as they are.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import store
from zoo.cards import Card
from zoo.datasets import PRUNING_SAMPLES, record
from zoo.errors import ZooError
from zoo.train import recipe_for


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


def same(typed: Sequence[str], card: Card, known: Mapping[str, Card]) -> bool:
    """Whether what is typed would make a card's entry: the card's command says all of it and beyond that only defaults,
    and the entry that it names, where it is among those `known`, is the one that the card was made from."""
    asked, there = settings(typed), settings(shlex.split(str(card.recipe.get("command", ""))))
    filled = {option: values for option, values in there.items() if option not in asked}
    if any(there.get(option) != values for option, values in asked.items()):
        return False
    kind, name = str(asked[""][1]), str(asked[""][2])
    start = None if kind == "train" or "--weights" in there else known.get(name)
    hashed = card.recipe.get("start_sha256" if kind == "finetune" else "parent_sha256")
    if start is not None and hashed is not None and hashed != start.saved.sha256:
        return False
    usual = defaults(kind, card, start)
    return all(usual.get(option) == values for option, values in filled.items())


def defaults(kind: str, card: Card, start: Card | None) -> dict[str, tuple[str | float, ...]]:
    """The values that a command fills in where nothing is typed; `start` is the entry that it was made from."""
    clouds = len(card.sample_shape) == 2
    side, usual = "points" if clouds else "size", card.dataset if start is None else start.dataset
    form: dict[str, Any] = {"dataset": "shapes" if kind == "train" else usual}
    form[side] = record(card.dataset).sample_shape[-1]
    if start is not None and start.dataset == card.dataset:
        form[side] = start.sample_shape[-1]
        form |= {key: start.recipe[key] for key in ("mean", "std", "validation") if key in start.recipe}
    if kind == "reprune":
        targeted = any(option.startswith("target_") for option in card.recipe)
        form |= {"images": PRUNING_SAMPLES["points" if clouds else "images"], "finetune-epochs": 0}
        form |= {"method": "repaired" if targeted else "combined"}
    else:
        recipe = recipe_for(kind, card.arch, card.dataset)
        form |= {"epochs": recipe.epochs, "lr": recipe.lr, "batch-size": recipe.batch_size}
    found = {f"--{key}": value if isinstance(value, tuple) else (value,) for key, value in form.items()}
    found |= {"--seed": (0,), "--name": (card.name,)}
    return {key: tuple(_value(str(each)) for each in values) for key, values in found.items()}


LARGEST = 50e6  # bytes of a file, beyond which GitHub warns


def to_publish(entries: Iterable[str], mirror: Path) -> Iterator[str]:
    """The names of those that lie in the user's own zoo and in the mirror not, or as another; what is too large for a
    repository is named on standard error instead."""
    for name in entries:
        place, published = store.user_dir() / f"{name}.json", mirror / f"{name}.json"
        if not place.exists() or store.is_shipped(name):
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
    for folder, otherwise in ((store.package_dir(), 5), (store.user_dir(), 3)):
        place = folder / f"{name}.json"
        if place.exists():
            card = store.read_card(place)
            if same(command, card, store.cards()):
                return 0
            print(card.recipe["command"])
            return otherwise
    return 0 if fetched(name, command) else 4


def fetched(name: str, command: Sequence[str]) -> bool:
    """Whether a mirror has the entry, made by this command; then it is on this machine."""
    known = store.cards(store.configured_mirrors())
    if name not in known or not same(command, known[name], known):
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
