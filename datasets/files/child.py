"""A library that may crash, hang or take all memory on a damaged file, run in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

_SECONDS = 60
_BOUNDED = """
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (2**32, resource.getrlimit(resource.RLIMIT_AS)[1]))
except (ImportError, ValueError, OSError):
    pass  # a system without limits
"""


def in_child(program: str, *arguments: str) -> Any:
    """The value of the JSON that a Python program prints, with 60 s and, on POSIX, 4 GiB; it has `json` and `sys`.

    Raises ValueError, with the last line that the program wrote to stderr, if it fails, crashes or hangs.
    """
    try:
        child = subprocess.run(
            [sys.executable, "-c", _BOUNDED + program, *arguments], capture_output=True, text=True, timeout=_SECONDS,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ValueError(f"its reader was stopped after {_SECONDS} s") from None
    if child.returncode:
        raise ValueError((child.stderr.strip().splitlines() or ["its reader crashes on it"])[-1])
    return json.loads(child.stdout)
