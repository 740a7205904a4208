"""Entries that need no torch: a card and any bytes."""

import hashlib
import json
from pathlib import Path

from zoo.cards import NO_PARENT, Accuracy, Card, File
from zoo.cards.licences import Licences

MODELNET = b"net.modelnet10" * 20_000  # what conftest's mirror has for the most demanding data set


def visible(folder: Path) -> list[str]:
    """The files that have their names: no locks, no halves, nothing that was set aside."""
    return sorted(path.name for path in folder.glob("[!.]*") if path.is_file())


def make(folder: Path, name: str, content: bytes = b"x" * 5000, **changes: object) -> Card:
    """Write an entry into a folder and return its card; `changes` are fields of the card."""
    sha256 = hashlib.sha256(content).hexdigest()
    file = File(name=f"{name}-{sha256[:8]}.safetensors", size=len(content), sha256=sha256)
    card = plain(name, file=file, **changes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(card.to_json())
    (folder / file.name).write_bytes(content)
    return card


def plain(name: str, **changes: object) -> Card:
    """A card of a small network; without a file, unless `changes` have one."""
    fields = {
        "name": name,
        "arch": "mlp",
        "dataset": "shapes",
        "num_classes": 3,
        "sample_shape": (5,),
        "options": {"in_features": 5},
        "widths": {"hidden1": 7, "hidden2": 4},
        "recipe": {"command": f"zoo train {name}"},
        "accuracy": Accuracy.of("test", 3, 4),
        "parameters": 89,
        "licences": Licences(code="Apache-2.0", weights="Apache-2.0", data="none", parent=NO_PARENT),
        **changes,
    }
    return Card(**fields)  # type: ignore[arg-type]


def write_index(folder: Path, schema: int = 1) -> None:
    """Make a folder of entries a mirror, as one would by hand."""
    cards = sorted(path.name for path in folder.glob("*.json") if path.name != "index.json")
    (folder / "index.json").write_text(json.dumps({"schema": schema, "cards": cards}))
