"""The decorators that the files of a package apply, read from the source so that none of the files is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path


def decorator_calls(folder: Path, decorator: str) -> Iterator[tuple[str, ast.Call]]:
    """Every `@decorator(...)` on a function or class at the top level of a file: (file name without .py, the call).

    A registry knows by this what a package offers before anything of it is imported: `zoo list` needs the names of the
    data sets but not torch, and a point-cloud network needs no torchvision.
    """
    # The lines of the decorator alone are parsed: `zoo list` would wait for the syntax trees of whole files.
    lines = re.compile(rf"^@{decorator}\(.*?(?=^(?:class|def|@))", re.MULTILINE | re.DOTALL)
    for file in sorted(folder.glob("*.py")):
        for match in lines.finditer(file.read_text(encoding="utf-8")):
            (function,) = ast.parse(f"{match[0]}def decorated(): ...", str(file)).body
            call = function.decorator_list[0]  # type: ignore[attr-defined]  # a function, by the line above
            assert isinstance(call, ast.Call)
            yield file.stem, call
