"""Writing a model and its card as an entry."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from torch import nn

from zoo import checkpoint, store
from zoo.cards import Card, File
from zoo.errors import ZooError


def save_entry(
    model: nn.Module, card: Card, folder: Path | None = None, *, overwrite: bool = False, float16: Collection[str] = ()
) -> Card:  # fmt: skip
    """Write a model and its card as an entry of a folder, the user's own zoo by default.

    Returns the card with its ``file`` filled in. Its arch, num_classes, options and widths go into the checkpoint.
    The weights that ``float16`` names, rounded by `zoo.half_precision.round_to_float16`, are stored in that type, and the card says so.

    Raises:
        ZooError: the card's widths are not the model's; a weight that ``float16`` names is none of its matrices and
            kernels, or float16 does not have it; or as `zoo.store.add`.
    """
    if card.widths != dict(getattr(model, "widths", {})):
        raise ZooError(f"card {card.name!r}: its widths are not those of the model that is saved with it")
    data = checkpoint.pack(model, arch=card.arch, num_classes=card.num_classes, options=card.options, float16=float16)
    sha256 = hashlib.sha256(data).hexdigest()
    name = f"{card.name}-{sha256[:8]}.safetensors"
    weights = None
    if float16:
        weights = "float16" if checkpoint.large_weights(model).keys() <= set(float16) else "mixed"
    file = File(name=name, size=len(data), sha256=sha256, weights=weights)
    card = dataclasses.replace(card, file=file)

    def write(out: BinaryIO) -> None:
        out.write(data)

    store.install_entry(card, store.user_dir() if folder is None else folder, write, overwrite=overwrite)
    return card
