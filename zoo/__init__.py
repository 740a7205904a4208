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

    name         an entry's name; without a data set it means a shipped entry, or else one of the user's own, or else a
                 downloaded one, and of several the one on the most difficult data set. Or the path of a checkpoint, as
                 `zoo convert` writes it, or of a folder that holds one
    dtype        float64, bfloat16 or float16 instead of float32
    num_classes  another number than the entry's gives the network a new, untrained head, with a warning
    mirror       where an entry that is not on this machine is downloaded from; by default the mirrors of ``ZOO_MIRROR``

    The names of the classes, in the order of the outputs, are the network's attribute ``classes``, a tuple; it is None
    where no card states them, and of a new head.

    The SHA-256 of the file is compared with the one on its card.

    Raises:
        ZooError: there is no such entry (names near ones), CUDA is asked for and absent, a download fails, or the file
            is damaged.
    """
    from zoo import checkpoint
    from zoo.distributed import device_of, dtype_of
    from zoo.store import checkpoint_at, fetch, is_path, reading

    # Checked before a download that would be in vain.
    target, kind = device_of(device), dtype_of(dtype)
    return reading(
        lambda: checkpoint_at(name) if is_path(name) else fetch(str(name), mirror=mirror),
        lambda path, card: checkpoint.load(path, device=target, dtype=kind, num_classes=num_classes, card=card),
    )
