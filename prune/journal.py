"""What a pruning pass has finished, on disk: a run killed at any moment goes on at the last finished group."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.files import new_file
from zoo.prune.report import GroupReport


class Journal:
    """Finished groups with their scales, in one JSON file that is replaced in one step.

    path         None keeps nothing
    fingerprint  of all that the result depends on; a file with another one is refused
    """

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.done: list[tuple[GroupReport, Tensor]] = []
        if path is not None and path.exists():
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text())
            fingerprint, groups = content["fingerprint"], content["groups"]
            done = [(GroupReport(**g["report"]), torch.tensor(g["scale"], dtype=torch.float64)) for g in groups]
        except (ValueError, KeyError, TypeError) as error:
            raise ZooError(f"{path} is not a pruning journal ({error}); remove it to start anew.") from error
        if fingerprint != self.fingerprint:
            raise ZooError(
                f"{path} belongs to a run with another network, other data or other settings; remove it to start "
                f"anew, or name another file."
            )
        self.done = done

    def add(self, report: GroupReport, scale: Tensor) -> None:
        """Note a finished group, on disk before this returns."""
        self.done.append((report, scale))
        if self.path is None:
            return
        groups = [{"report": asdict(report), "scale": scale.tolist()} for report, scale in self.done]
        text = json.dumps({"fingerprint": self.fingerprint, "groups": groups})
        with new_file(self.path) as file:
            file.write(text.encode())


class Record:
    """Named lists of numbers that stay valid for any goal, in one JSON file that is replaced in one step.

    A file with another fingerprint is written anew: it is a cache, and what it held can be computed again.
    """

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.values: dict[str, list[float]] = {}
        if path is not None and path.exists():
            try:
                content = json.loads(path.read_text())
                if content["fingerprint"] == fingerprint:
                    self.values = {str(name): [float(v) for v in row] for name, row in content["values"].items()}
            except (ValueError, KeyError, TypeError, AttributeError):
                self.values = {}

    def update(self, values: Mapping[str, list[float]]) -> None:
        """Note some lists, on disk before this returns."""
        if not values:
            return
        self.values.update(values)
        if self.path is not None:
            text = json.dumps({"fingerprint": self.fingerprint, "values": self.values})
            with new_file(self.path) as file:
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
