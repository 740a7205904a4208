"""The decorators that the files of a package apply, read from the source so that none of the files is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def decorator_calls(folder: Path, decorator: str) -> Iterator[tuple[str, ast.Call]]:
    """Every `@decorator(...)` on a function or class at the top level of a file: (file name without .py, the call).

    A registry knows by this what a package offers before anything of it is imported: `zoo list` needs the names of the
    data sets but not torch, and a point-cloud network needs no torchvision.
    """
    for file in sorted(folder.glob("*.py")):
        source = file.read_text(encoding="utf-8")
        if f"@{decorator}(" not in source:  # parsing is the slow part
            continue
        for node in ast.parse(source, str(file)).body:
            for call in getattr(node, "decorator_list", ()):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == decorator:
                    yield file.stem, call
