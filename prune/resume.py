"""The files of a pruning run: what it has finished, so that a killed run continues, and what other runs can reuse."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from zoo import distributed
from zoo.errors import ZooError, excerpt
from zoo.prune.report import GroupReport
from zoo.utils import new_file, parse_json, read_json

_MAX_BYTES = 1 << 30
# What reading another value of JSON than was written raises; the last two come from numbers that torch does not take.
_UNUSABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError)
# A field of `GroupReport` in files of earlier versions -> today's name.
_REPORT_ALIASES = {"uncertain": "gram_rel_stderr"}


@dataclass(frozen=True)
class Fingerprint:
    """Everything that a result depends on: a hash of the network's state, the data and the settings, and the network's
    first outputs, for the hash does not cover the code of forward().

    Outputs are compared to a hundredth of the largest, for they round differently with another number of threads.
    """

    hash: str
    outputs: tuple[float, ...]

    def matches(self, content: Mapping[str, Any]) -> bool:
        """Whether the content of a file has this fingerprint."""
        theirs, ours = (torch.tensor(values, dtype=torch.float64) for values in (content["outputs"], self.outputs))
        if content["fingerprint"] != self.hash or theirs.shape != ours.shape:
            return False
        return float((theirs - ours).abs().max()) <= 0.01 * float(ours.abs().max())


class ResumeFile:
    """The finished groups with their scales, and the widths that were decided on before the first, in one JSON file
    that is replaced atomically.

    path         None keeps them in memory alone
    fingerprint  of everything that the result depends on; a file with another one is refused with a ZooError

    Of several processes the first reads and writes.
    """

    def __init__(self, path: Path | None, fingerprint: Fingerprint) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.widths, self.groups = distributed.run_on_rank0(self._load)
        self.num_loaded = len(self.groups)

    def _load(self) -> tuple[dict[str, int] | None, list[tuple[GroupReport, Tensor]]]:
        path = self.path
        if path is None or not path.exists():
            return None, []
        try:
            content = read_json(path, limit=_MAX_BYTES)
            widths, same = content["widths"], self.fingerprint.matches(content)
            if widths is not None:
                widths = {str(name): operator.index(width) for name, width in widths.items()}
            groups = [(_report_from(row["report"]), _scale_from(row["scale"])) for row in content["groups"]]
        except (OSError, *_UNUSABLE) as error:
            raise ZooError(
                f"{path} is not a resume file of pruning ({excerpt(error, str)}); remove it to start anew."
            ) from error
        if not same:
            raise ZooError(
                f"{path} belongs to a run with another network, other data or other settings; remove it to start "
                f"anew, or name another file."
            )
        return widths, groups

    def finished(self, index: int, name: str, size: int) -> tuple[GroupReport, Tensor] | None:
        """The report and the scale (N,) of the group that is pruned as number `index`; None if it is still to do.

        Raises ZooError if the file has another group there.
        """
        if index >= len(self.groups):
            return None
        report, scale = self.groups[index]
        if (report.name, report.before, tuple(scale.shape)) != (name, size, (size,)):
            raise ZooError(f"{self.path} is not a resume file of this network; remove it to start anew.")
        return report, scale

    def set_widths(self, widths: dict[str, int]) -> None:
        """Store the widths that the groups will get, on disk before this returns: a table of latencies that is measured
        again would give others."""
        self.widths = widths
        self._write()

    def add(self, report: GroupReport, scale: Tensor) -> None:
        """Store a finished group, on disk before this returns."""
        self.groups.append((report, scale))
        self._write()

    def _write(self) -> None:
        rows = [{"report": asdict(report), "scale": scale.tolist()} for report, scale in self.groups]
        _replace(self.path, self.fingerprint, {"widths": self.widths, "groups": rows})


class CacheFile:
    """Lists of numbers by name, in one JSON file that is replaced atomically, for other runs to reuse.

    path None keeps nothing on disk. A file with another fingerprint, or damaged, counts as empty: what it held can be
    computed again. Of several processes the first reads and writes.
    """

    def __init__(self, path: Path | None, fingerprint: Fingerprint) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.values = distributed.run_on_rank0(self._load)

    def _load(self) -> dict[str, list[float]]:
        if self.path is None or not self.path.exists():
            return {}
        try:
            content = read_json(self.path, limit=_MAX_BYTES)
            if self.fingerprint.matches(content):
                return {str(name): [float(v) for v in row] for name, row in content["values"].items()}
        except (OSError, *_UNUSABLE):
            pass
        return {}

    def update(self, values: Mapping[str, list[float]]) -> None:
        """Store some lists, on disk before this returns."""
        if not values:
            return
        self.values.update(values)
        _replace(self.path, self.fingerprint, {"values": self.values})


class MatrixCache:
    """The matrices of groups, by name, in one safetensors file that is replaced atomically, for other runs to reuse.

    matrices  group name -> its matrices, or None where the file holds none of this fingerprint

    path None keeps nothing on disk. A damaged file counts as none. Of several processes the first reads and writes.
    """

    def __init__(self, path: Path | None, fingerprint: Fingerprint) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.matrices = distributed.run_on_rank0(self._load)

    def _load(self) -> dict[str, list[Tensor]] | None:
        if self.path is None or not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                content = {"fingerprint": metadata["fingerprint"], "outputs": parse_json(metadata["outputs"])}
                if not self.fingerprint.matches(content):
                    return None
                sizes: Any = parse_json(metadata["sizes"])
                return {name: [file.get_tensor(f"{name}/{i}") for i in range(n)] for name, n in sizes.items()}
        except (*_UNUSABLE, OSError, SafetensorError):
            return None

    def store(self, matrices: Mapping[str, list[Tensor]]) -> None:
        """Keep the matrices, on disk before this returns."""
        if self.path is None or distributed.rank() != 0:
            return
        tensors = {f"{name}/{i}": m.cpu().contiguous() for name, group in matrices.items() for i, m in enumerate(group)}
        metadata = {
            "fingerprint": self.fingerprint.hash, "outputs": json.dumps(self.fingerprint.outputs),
            "sizes": json.dumps({name: len(group) for name, group in matrices.items()}),
        }  # fmt: skip
        with new_file(self.path) as file:
            file.write(save(tensors, metadata))


def _report_from(fields: Mapping[str, Any]) -> GroupReport:
    report = GroupReport(**{_REPORT_ALIASES.get(name, name): value for name, value in fields.items()})
    for name, kind in get_type_hints(GroupReport).items():
        if not isinstance(value := getattr(report, name), kind):
            raise TypeError(f"{name} is {excerpt(value)}")
    return report


def _scale_from(values: Iterable[Any]) -> Tensor:
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def _replace(path: Path | None, fingerprint: Fingerprint, content: Mapping[str, Any]) -> None:
    if path is not None and distributed.rank() == 0:
        text = json.dumps({"fingerprint": fingerprint.hash, "outputs": fingerprint.outputs, **content})
        with new_file(path) as file:
            file.write(text.encode())


def hash_inputs(model: nn.Module, inputs: Tensor, labels: Tensor | None, settings: dict[str, Any]) -> str:
    """A hash (SHA-256) of the network's state, the pruning data and the settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    tensors = [*model.state_dict().values(), inputs, *([] if labels is None else [labels])]
    for tensor in tensors:
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        flat = tensor.detach().cpu().reshape(-1).contiguous()  # logical order, whatever the memory format
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
