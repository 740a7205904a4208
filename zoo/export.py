"""Exporting the network of an entry to other runtimes, ONNX, torch.export or TorchScript, for batches of any size.

A network for clouds takes any number of points as well, where it allows that.

The file is read back and compared with the network before it gets its name. It also holds the card of the entry: under
the metadata key ``card`` in ONNX, as the extra file ``card.json`` in the other two formats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo import display
from zoo.cards import Card
from zoo.errors import ZooError, first_line
from zoo.export_formats import FORMATS, ExportFormat, quiet
from zoo.export_targets import check_export
from zoo.file_entry import load_entry
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
    points_errors: dict[int, float]  # by number of points, where that is free
    sample_shape: tuple[int, ...]

    def table(self) -> str:
        """The file, its format and size, and the relative error at each batch size."""
        free, sizes = self.points_errors, [str(size) for size in self.sample_shape]
        shape = ", ".join([*sizes[:-1], "points"] if free else sizes)
        any_size = "any batch and number of points" if free else "any batch"
        return display.table(
            [
                ("file", str(self.path)),
                ("format", f"{self.format}, input (batch, {shape}), {any_size}"),
                ("size", f"{self.size} bytes"),
                ("SHA-256", self.sha256),
                *((f"batch {batch}", f"relative error {error:.1e}") for batch, error in self.errors.items()),
                *((f"{n} points", f"relative error {error:.1e}") for n, error in self.points_errors.items()),
                ("tolerance", f"{self.tolerance:.0e}"),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        errors = {str(batch): error for batch, error in self.errors.items()}
        fields = {"format": self.format, "path": str(self.path), "size": self.size, "sha256": self.sha256}
        fields |= {"sample_shape": list(self.sample_shape), "free_points": bool(self.points_errors)}
        by_points = {str(points): error for points, error in self.points_errors.items()}
        errors_of = {"relative_error": errors, "relative_error_by_points": by_points}
        return {"name": self.card.name, **fields, **errors_of, "tolerance": self.tolerance}


def export(
    name: str,
    *,
    format: str,
    out: str | Path | None = None,
    points: int | None = None,
    overwrite: bool = False,
    mirror: str | Sequence[str] | None = None,
) -> ExportResult:
    """Export the network of an entry: input (B, *sample_shape) float32 -> logits (B, num_classes), for any B.

    name    an entry's, or the path of a checkpoint
    format  onnx, torch.export or torchscript
    out     by default ``<name>.onnx``, ``<name>.pt2`` or ``<name>.torchscript.pt`` in the current folder
    points  the number of points of a cloud, fixed in the file; by default it is free where the network allows it, and
            otherwise (PointNet++, whose search is unrolled) that of the entry
    mirror  as in `zoo.store.fetch`

    The file appears complete or not at all, and only after it was loaded (by onnxruntime, torch.export.load or
    torch.jit.load) and gave the logits of the network for random inputs at two batch sizes other than the traced one,
    and at two other numbers of points where that is free.

    Raises ZooError for an unknown entry or format, missing packages, a file that exists, unless `overwrite` is set, a
    network that the exporter cannot write, logits that differ by more than the tolerance, and a file that cannot be
    written. A file of that name is then unchanged.
    """
    target = check_export(format, out, overwrite=overwrite)
    form = FORMATS[format]
    model, card = load_entry(name, mirror=mirror)
    path = expand_path(f"{card.name}{target.suffix}" if out is None else out)
    check_export(format, path, overwrite=overwrite)
    model.requires_grad_(False)  # with gradients, in-place operations could not run in the exported file
    search = any(isinstance(module, EdgeConv | SetAbstraction) for module in model.modules())
    tolerance = _TOLERANCE_OF_SEARCH if search else _TOLERANCE
    shape = _sample_shape(card, points)
    min_points = None if points is not None else _min_points(model, shape)
    made = (form, model, card, path, shape, tolerance)
    if min_points is not None:
        with suppress(ZooError):  # some network of a plug-in: its number of points is fixed then
            return _export(*made, min_points)
    return _export(*made, None)


def _export(
    form: ExportFormat, model: nn.Module, card: Card, path: Path, shape: tuple[int, ...], tolerance: float,
    min_points: int | None,
) -> ExportResult:  # fmt: skip
    """Write, check and name the file, with the number of points free from `min_points` on, or fixed."""
    others = [] if min_points is None else [max(min_points, shape[-1] // 2 + 1), shape[-1] + 7]
    inputs = [_random(shape, batch) for batch in _CHECKED] + [_random((*shape[:-1], n), 2) for n in others]
    with torch.no_grad():
        expected = _logits(model, inputs, card)
        data = _write(form, model, card, shape, min_points)
    with new_file(path) as file:
        file.write(data)
        file.flush()
        found = _relative_errors(form, file.name, inputs, expected)
        errors = dict(zip(_CHECKED, found, strict=False))
        points_errors = dict(zip(others, found[len(_CHECKED) :], strict=True))
        too_large = [f"{error:.1e}" for error in found if not error <= tolerance]  # also true for NaN
        if too_large:
            raise ZooError(
                f"{card.name} as {form.name} gives other logits than the network: relative error {too_large[0]}, "
                f"at most {tolerance:.0e} is allowed; nothing was written, try another `format` ({_others(form)})"
            )
    sha256 = hashlib.sha256(data).hexdigest()
    return ExportResult(card, form.name, path, len(data), sha256, errors, tolerance, points_errors, shape)


def _sample_shape(card: Card, points: int | None) -> tuple[int, ...]:
    """The shape of a sample with that number of points, by default the card's."""
    if points is None:
        return card.sample_shape
    if len(card.sample_shape) != 2:
        raise ZooError(f"{card.name} takes no clouds, whose number of points can be given: leave `points` out")
    if points < 1:
        raise ZooError(f"{points} points are too few: give 1 or more with `points`")
    return (card.sample_shape[0], points)


def _min_points(model: nn.Module, shape: Sequence[int]) -> int | None:
    """The smallest number of points where it can be free: that of the neighbours which EdgeConv searches; None where
    it cannot, because a loop over points is unrolled."""
    if len(shape) != 2 or any(isinstance(module, SetAbstraction) for module in model.modules()):
        return None
    return max([2, *(module.k for module in model.modules() if isinstance(module, EdgeConv))])


def _random(shape: Sequence[int], batch: int) -> Tensor:
    """Random inputs (batch, *shape) that depend on the sizes only."""
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))


def _logits(model: nn.Module, inputs: Sequence[Tensor], card: Card) -> list[Tensor]:
    try:
        return [model(x) for x in inputs]
    except RuntimeError as error:
        raise ZooError(
            f"{card.name} does not run on samples of the shape {card.sample_shape} that its card states "
            f"({first_line(error)}): set sample_shape in the card right"
        ) from error


def _write(
    form: ExportFormat, model: nn.Module, card: Card, shape: Sequence[int], min_points: int | None
) -> bytes:
    try:
        with quiet():
            return form.write(model, _random(shape, _TRACED), card, min_points)
    except Exception as error:  # three exporters, each with errors of its own
        raise ZooError(
            f"torch {torch.__version__} cannot write {card.name} as {form.name} ({first_line(error)}); "
            f"try another `format` ({_others(form)}) or a newer torch"
        ) from error


def _relative_errors(
    form: ExportFormat, path: str, inputs: Sequence[Tensor], expected: Sequence[Tensor]
) -> list[float]:
    """|logits - expected| / |expected| for each input, where logits (B, num_classes) are those of the file."""
    errors = []
    try:
        with quiet():
            run = form.read(path)
            for x, y in zip(inputs, expected, strict=True):
                logits = run(x)
                if logits.shape != y.shape:
                    raise ZooError(f"its logits for a batch of {len(x)} have the shape {tuple(logits.shape)}")
                norm = y.double().norm().clamp_min(torch.finfo(y.dtype).tiny)
                errors.append(float((logits.double() - y.double()).norm() / norm))
    except Exception as error:  # three runtimes, each with errors of its own
        raise ZooError(
            f"the file in the format {form.name} does not run at other sizes than those traced "
            f"({first_line(error)}); nothing was written, try another `format` ({_others(form)})"
        ) from error
    return errors


def _others(form: ExportFormat) -> str:
    return " or ".join(sorted(FORMATS.keys() - {form.name}))
