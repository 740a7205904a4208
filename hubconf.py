"""torch.hub on a clone of this repository, installed or not:

    torch.hub.load("path/to/clone", "get", "dgcnn-pruned-0.5x", source="local")
"""

from __future__ import annotations

from pathlib import Path

import zoo

dependencies = [
    "click", "filelock", "h5py", "numpy", "platformdirs", "requests", "safetensors", "torch", "torchvision", "tqdm",
]  # fmt: skip

# The folders beside zoo/ are its subpackages once it is installed (setup.cfg, package_dir); in a clone they lie here.
_HERE = str(Path(__file__).parent)
if Path(zoo.__file__).parent.parent == Path(_HERE) and _HERE not in zoo.__path__:
    zoo.__path__.append(_HERE)

get = zoo.get
list_models = zoo.list_models
