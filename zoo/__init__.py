"""A point-cloud and vision model zoo with pruned variants that are smaller, really faster, and measured.

    import zoo

    zoo.list_models("dgcnn*")
    model = zoo.get("dgcnn-pruned-0.5x")

Importing this module imports no torch; `get` does.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.cards import Card
from zoo.errors import ZooError
from zoo.store import download, info, list_models

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Card", "ZooError", "download", "get", "info", "list_models"]


def get(
    name: str | os.PathLike[str], *, device: str | torch.device = "cpu", dtype: str | torch.dtype | None = None,
    num_classes: int | None = None, mirror: str | os.PathLike[str] | Sequence[str] | None = None,
) -> nn.Module:  # fmt: skip
    """The network of an entry: an ordinary, dense ``nn.Module`` in eval mode, on the device.

    A name without a data set means the entry on the most demanding one that the zoo has. An entry that is not on
    this machine is downloaded from the mirrors given, or those of ``ZOO_MIRROR``. The file's SHA-256 is compared with
    its card's. A path to a checkpoint, or to a folder that holds one, does as well; a plain word is always a name.

    dtype        float64, bfloat16 or float16; float32 otherwise
    num_classes  another number than the entry's gives it a new, untrained head, and a warning says so

    Raises:
        ZooError: no such entry (names near ones), CUDA asked for and absent, a download that fails, a damaged file.
    """
    from zoo import checkpoint
    from zoo.distributed import device_of, dtype_of
    from zoo.store import checkpoint_at, fetch, is_path

    # Before a download that would be for nothing.
    target, kind = device_of(device), dtype_of(dtype)
    path, card = checkpoint_at(name) if is_path(name) else fetch(str(name), mirror=mirror)
    return checkpoint.load(path, device=target, dtype=kind, num_classes=num_classes, card=card)
