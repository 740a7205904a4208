"""Real processes, started by torchrun."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

SUPPORT = str(Path(__file__).parent)


def torchrun(
    processes: int, command: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 300
) -> "subprocess.CompletedProcess[str]":
    """torchrun --nproc-per-node `processes` COMMAND, where the command is a script or -m MODULE and its arguments."""
    return subprocess.run(
        [*launcher(processes), *command], capture_output=True, text=True, timeout=timeout, env=environment(env)
    )


def run_distributed(
    processes: int, bodies: Mapping[str, str], folder: Path, **values: object
) -> "subprocess.CompletedProcess[str]":
    """Run Python texts, one after another, in so many processes of one torchrun inside `distributed.process_group`.

    A launch takes seconds, so a test file has one for all of its texts. Each text knows `folder`, the subfolder with
    its name, `ROOT` (the folder itself), the names in `values`, and what is imported below.
    """
    lines = ["import sys", f"sys.path.insert(0, {SUPPORT!r})", "from pathlib import Path, PosixPath", "import torch"]
    lines += ["from zoo import ZooError, distributed"]
    lines += [f"{name} = {value!r}" for name, value in {"ROOT": folder, **values}.items()]
    for i, (name, body) in enumerate(bodies.items()):
        (folder / name).mkdir(exist_ok=True)
        lines += [f"def body{i}(folder):", textwrap.indent(textwrap.dedent(body), "    ")]
    lines += ["with distributed.process_group():"]
    lines += [f"    body{i}(ROOT / {name!r})" for i, name in enumerate(bodies)]
    script = folder / "run_distributed.py"
    script.write_text("\n".join(lines) + "\n")
    done = torchrun(processes, [str(script)])
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def launcher(processes: int) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **(more or {})}
