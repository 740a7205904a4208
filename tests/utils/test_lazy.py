"""What a package imports under TYPE_CHECKING is there at run time too."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

PACKAGES = ("datasets", "datasets.folder", "distributed", "prune", "train", "workflows")


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_of_a_lazy_package_is_there(name: str) -> None:
    package = import_module(f"zoo.{name}")
    for public in package.__all__:
        assert getattr(package, public) is not None
    with pytest.raises(AttributeError, match=rf"module 'zoo\.{name}' has no attribute 'nothing'"):
        _ = package.nothing
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    assert len(blocks) == 1  # the imports of type checkers
    lines = [line for line in blocks[0].body if isinstance(line, ast.ImportFrom)]
    assert {alias.name for line in lines for alias in line.names} <= set(package.__all__)
