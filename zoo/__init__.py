"""A point-cloud and vision model zoo with pruned variants that are smaller, really faster, and measured.

    import zoo

    zoo.list_models("dgcnn*")
    model = zoo.get("dgcnn-pruned-0.5x")

Importing this module imports no torch; `get` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.cards import Card
from zoo.errors import ZooError
from zoo.store import download, info, list_models

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Card", "ZooError", "download", "get", "info", "list_models"]


def get(name: str, *, device: str | torch.device = "cpu") -> nn.Module:
    """The network of an entry: an ordinary, dense ``nn.Module`` in eval mode, on the device.

    A name without a data set means the entry on the most demanding one that the zoo has. An entry that is not on
    this machine is downloaded from the mirrors of ``ZOO_MIRROR``. The file's SHA-256 is compared with its card's.

    Raises:
        ZooError: no such entry (names near ones), CUDA asked for and absent, a download that fails, a damaged file.
    """
    from zoo import checkpoint

    target = checkpoint.device_of(device)  # before a download that would be for nothing
    return checkpoint.load(download(name), device=target)
