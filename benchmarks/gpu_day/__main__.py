"""`gpu_day.sh COMMAND ...`: runs the module of that name."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = ("run", "train", "pack", "merge", "kernels", "forward", "networks", "pruning")

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        import_module(f"gpu_day.{sys.argv[1]}").main(sys.argv[2:], prog_name=f"gpu_day.sh {sys.argv[1]}")
    else:
        sys.exit(f"usage: gpu_day.sh {'|'.join(COMMANDS)} [--help]; benchmarks/gpu_day.sh says what they do")
