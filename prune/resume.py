"""What a pruning pass has finished, on disk: a run killed at any moment goes on at the last finished group."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo import distributed
from zoo.errors import ZooError
from zoo.prune.report import GroupReport
from zoo.utils import new_file


@dataclass(frozen=True)
class Identity:
    """What a result depends on: a hash of network state, data and settings, and the network's first outputs, for the
    same state may belong to another forward.

    Outputs are compared to a hundredth of the largest: they round otherwise with another number of threads.
    """

    hash: str
    outputs: tuple[float, ...]

    def written_in(self, content: Mapping[str, Any]) -> bool:
        """Whether a file's content has this identity."""
        there, here = (torch.tensor(values, dtype=torch.float64) for values in (content["outputs"], self.outputs))
        if content["fingerprint"] != self.hash or there.shape != here.shape:
            return False
        return float((there - here).abs().max()) <= 0.01 * float(here.abs().max())


class Journal:
    """Finished groups with their scales, and the widths that were decided on before the first, in one JSON file that is
    replaced in one step.

    path      None keeps nothing
    identity  of all that the result depends on; a file with another one is refused

    Of several processes the first reads and writes.
    """

    def __init__(self, path: Path | None, identity: Identity) -> None:
        self.path = path
        self.identity = identity
        self.widths, self.done = distributed.run_on_rank0(self._load)

    def _load(self) -> tuple[dict[str, int] | None, list[tuple[GroupReport, Tensor]]]:
        path = self.path
        if path is None or not path.exists():
            return None, []
        try:
            content = json.loads(path.read_text())
            groups, widths, same = content["groups"], content["widths"], self.identity.written_in(content)
            done = [(GroupReport(**g["report"]), torch.tensor(g["scale"], dtype=torch.float64)) for g in groups]
        except (ValueError, KeyError, TypeError) as error:
            raise ZooError(f"{path} is not a pruning journal ({error}); remove it to start anew.") from error
        if not same:
            raise ZooError(
                f"{path} belongs to a run with another network, other data or other settings; remove it to start "
                f"anew, or name another file."
            )
        return widths, done

    def decide(self, widths: dict[str, int]) -> None:
        """Note the widths that the groups will get, on disk before this returns: measured anew, a table of latencies
        would give others."""
        self.widths = widths
        self._write()

    def add(self, report: GroupReport, scale: Tensor) -> None:
        """Note a finished group, on disk before this returns."""
        self.done.append((report, scale))
        self._write()

    def _write(self) -> None:
        groups = [{"report": asdict(report), "scale": scale.tolist()} for report, scale in self.done]
        _replace(self.path, self.identity, {"widths": self.widths, "groups": groups})


class Record:
    """Named lists of numbers that stay valid for any goal, in one JSON file that is replaced in one step.

    A file with another identity is written anew: it is a cache, and what it held can be computed again. Of several
    processes the first reads and writes.
    """

    def __init__(self, path: Path | None, identity: Identity) -> None:
        self.path = path
        self.identity = identity
        self.values = distributed.run_on_rank0(self._load)

    def _load(self) -> dict[str, list[float]]:
        if self.path is None or not self.path.exists():
            return {}
        try:
            content = json.loads(self.path.read_text())
            if self.identity.written_in(content):
                return {str(name): [float(v) for v in row] for name, row in content["values"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        return {}

    def update(self, values: Mapping[str, list[float]]) -> None:
        """Note some lists, on disk before this returns."""
        if not values:
            return
        self.values.update(values)
        _replace(self.path, self.identity, {"values": self.values})


def _replace(path: Path | None, identity: Identity, content: Mapping[str, Any]) -> None:
    if path is not None and distributed.rank() == 0:
        text = json.dumps({"fingerprint": identity.hash, "outputs": identity.outputs, **content})
        with new_file(path) as file:
            file.write(text.encode())


def fingerprint(model: nn.Module, inputs: Tensor, labels: Tensor | None, settings: dict[str, Any]) -> str:
    """A hash of the network's state, the pruning data and the settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    tensors = [*model.state_dict().values(), inputs, *([] if labels is None else [labels])]
    for tensor in tensors:
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        flat = tensor.detach().cpu().reshape(-1).contiguous()  # logical order, whatever the memory format
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
