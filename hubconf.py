"""torch.hub on a clone of this repository, installed or not:

    torch.hub.load("path/to/clone", "get", "dgcnn-pruned-0.5x", source="local")
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

dependencies = [
    "click", "filelock", "h5py", "numpy", "platformdirs", "requests", "safetensors", "torch", "torchvision", "tqdm",
]  # fmt: skip


def _package_of_the_clone() -> ModuleType:
    """Import `zoo` from this clone, with the folders beside zoo/ as its subpackages (setup.cfg, package_dir)."""
    clone = Path(__file__).parent
    file, folders = clone / "zoo" / "__init__.py", [str(clone / "zoo"), str(clone)]
    spec = importlib.util.spec_from_file_location("zoo", file, submodule_search_locations=folders)
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules["zoo"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package


zoo = sys.modules["zoo"] if "zoo" in sys.modules else _package_of_the_clone()

get = zoo.get
list_models = zoo.list_models
