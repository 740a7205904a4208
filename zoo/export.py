"""Exporting the network of an entry to other runtimes, ONNX, torch.export or TorchScript, for batches of any size.

The file is read back and compared with the network before it gets its name. It also holds the card of the entry: under
the metadata key ``card`` in ONNX, as the extra file ``card.json`` in the other two formats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo import checkpoint, display
from zoo.cards import Card
from zoo.errors import ZooError, first_line
from zoo.export_formats import FORMATS, ExportFormat, quiet
from zoo.export_targets import check_export
from zoo.file_entry import find_entry
from zoo.models import EdgeConv, SetAbstraction
from zoo.utils import expand_path, new_file

# Batch sizes: that of the traced input, and those at which the logits of file and network are compared.
_TRACED, _CHECKED = 3, (1, 5)
# Relative errors of logits. Another order of summation gives 1e-6, up to 1e-4 in a deep, narrow, untrained network. In
# a network that searches neighbours, rounding can select another neighbour at equal distance: the worst of 60 random
# clouds gave 3e-3 (dgcnn-pruned-0.5x.shapes as ONNX, median 5e-7). A wrong file gives about 1.
_TOLERANCE, _TOLERANCE_OF_SEARCH = 1e-3, 1e-2


@dataclass(frozen=True)
class ExportResult:
    """A file that was written, and the relative errors of its logits by batch size."""

    card: Card
    format: str
    path: Path
    size: int
    sha256: str
    errors: dict[int, float]
    tolerance: float

    def table(self) -> str:
        """The file, its format and size, and the relative error at each batch size."""
        shape = ", ".join(map(str, self.card.sample_shape))
        return display.table(
            [
                ("file", str(self.path)),
                ("format", f"{self.format}, input (batch, {shape}), any batch"),
                ("size", f"{self.size} bytes"),
                ("SHA-256", self.sha256),
                *((f"batch {batch}", f"relative error {error:.1e}") for batch, error in self.errors.items()),
                ("tolerance", f"{self.tolerance:.0e}"),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        errors = {str(batch): error for batch, error in self.errors.items()}
        fields = {"format": self.format, "path": str(self.path), "size": self.size, "sha256": self.sha256}
        return {"name": self.card.name, **fields, "relative_error": errors, "tolerance": self.tolerance}


def export(
    name: str,
    *,
    format: str,
    out: str | Path | None = None,
    overwrite: bool = False,
    mirror: str | Sequence[str] | None = None,
) -> ExportResult:
    """Export the network of an entry: input (B, *sample_shape) float32 -> logits (B, num_classes), for any B.

    name    an entry's, or the path of a checkpoint
    format  onnx, torch.export or torchscript
    out     by default ``<name>.onnx``, ``<name>.pt2`` or ``<name>.torchscript.pt`` in the current folder
    mirror  as in `zoo.store.fetch`

    The file appears complete or not at all, and only after it was loaded (by onnxruntime, torch.export.load or
    torch.jit.load) and gave the logits of the network for random inputs at two batch sizes other than the traced one.

    Raises ZooError for an unknown entry or format, missing packages, a file that exists, unless `overwrite` is set, a
    network that the exporter cannot write, logits that differ by more than the tolerance, and a file that cannot be
    written. A file of that name is then unchanged.
    """
    target = check_export(format, out, overwrite=overwrite)
    form = FORMATS[format]
    source, card = find_entry(name, mirror=mirror)
    path = expand_path(f"{card.name}{target.suffix}" if out is None else out)
    check_export(format, path, overwrite=overwrite)
    # With parameters that require gradients, in-place operations could not run in the exported file.
    model = checkpoint.load(source).requires_grad_(False)
    search = any(isinstance(module, EdgeConv | SetAbstraction) for module in model.modules())
    tolerance = _TOLERANCE_OF_SEARCH if search else _TOLERANCE
    inputs = [_random(card, batch) for batch in _CHECKED]
    with torch.no_grad():
        expected = _logits(model, inputs, card)
        data = _write(form, model, card)
    with new_file(path) as file:
        file.write(data)
        file.flush()
        errors = _relative_errors(form, file.name, inputs, expected)
        too_large = [f"{error:.1e}" for error in errors.values() if not error <= tolerance]  # also true for NaN
        if too_large:
            raise ZooError(
                f"{card.name} as {format} gives other logits than the network: relative error {too_large[0]}, at most "
                f"{tolerance:.0e} is allowed; nothing was written, try another `format` ({_others(form)})"
            )
    return ExportResult(card, format, path, len(data), hashlib.sha256(data).hexdigest(), errors, tolerance)


def _random(card: Card, batch: int) -> Tensor:
    """Random inputs (batch, *sample_shape) that depend on the batch size only."""
    return torch.randn(batch, *card.sample_shape, generator=torch.Generator().manual_seed(batch))


def _logits(model: nn.Module, inputs: Sequence[Tensor], card: Card) -> list[Tensor]:
    try:
        return [model(x) for x in inputs]
    except RuntimeError as error:
        raise ZooError(
            f"{card.name} does not run on samples of the shape {card.sample_shape} that its card states "
            f"({first_line(error)}): set sample_shape in the card right"
        ) from error


def _write(form: ExportFormat, model: nn.Module, card: Card) -> bytes:
    try:
        with quiet():
            return form.write(model, _random(card, _TRACED), card)
    except Exception as error:  # three exporters, each with errors of its own
        raise ZooError(
            f"torch {torch.__version__} cannot write {card.name} as {form.name} ({first_line(error)}); "
            f"try another `format` ({_others(form)}) or a newer torch"
        ) from error


def _relative_errors(
    form: ExportFormat, path: str, inputs: Sequence[Tensor], expected: Sequence[Tensor]
) -> dict[int, float]:
    """Batch size -> |logits - expected| / |expected|, where logits (B, num_classes) are those of the file."""
    errors = {}
    try:
        with quiet():
            run = form.read(path)
            for x, y in zip(inputs, expected, strict=True):
                logits = run(x)
                if logits.shape != y.shape:
                    raise ZooError(f"its logits for a batch of {len(x)} have the shape {tuple(logits.shape)}")
                norm = y.double().norm().clamp_min(torch.finfo(y.dtype).tiny)
                errors[len(x)] = float((logits.double() - y.double()).norm() / norm)
    except Exception as error:  # three runtimes, each with errors of its own
        raise ZooError(
            f"the file in the format {form.name} does not run at other batch sizes than the traced {_TRACED} "
            f"({first_line(error)}); nothing was written, try another `format` ({_others(form)})"
        ) from error
    return errors


def _others(form: ExportFormat) -> str:
    return " or ".join(sorted(FORMATS.keys() - {form.name}))
