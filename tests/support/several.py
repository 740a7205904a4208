"""Real processes, started by torchrun."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path


def torchrun(
    processes: int, command: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 300
) -> "subprocess.CompletedProcess[str]":
    """torchrun --nproc-per-node `processes` COMMAND, where the command is a script or -m MODULE and its arguments."""
    return subprocess.run(
        [*launcher(processes), *command], capture_output=True, text=True, timeout=timeout, env=environment(env)
    )


def together(processes: int, body: str, folder: Path, **values: object) -> "subprocess.CompletedProcess[str]":
    """Run Python text in so many processes, inside `zoo.distributed.processes.process_group`; it knows `folder` and the names in
    `values`."""
    script = folder / "together.py"
    known = "".join(f"{name} = {value!r}\n" for name, value in {"folder": folder, **values}.items())
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path, PosixPath\nimport torch\nfrom zoo.distributed import processes\n"
        + known
        + "with processes.process_group():\n"
        + textwrap.indent(textwrap.dedent(body), "    ")
    )
    done = torchrun(processes, [str(script)])
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def launcher(processes: int) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **(more or {})}
