"""Names of a package whose files are imported when they are first used."""

from __future__ import annotations

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_imports(package: str, file: str) -> Callable[[str], Any]:
    """The `__getattr__` of a package, given its `__name__` and `__file__`: what its `__init__` imports under
    TYPE_CHECKING, for type checkers, is imported when it is first used, so that nothing waits for torch in vain."""
    module_of = {
        alias.name: line.module
        for block in ast.parse(Path(file).read_text(encoding="utf-8")).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }

    def attribute(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(str(module_of[name])), name)

    return attribute
