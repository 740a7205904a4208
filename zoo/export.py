"""An entry's network as a file for other runtimes: ONNX, torch.export or TorchScript, for batches of any size.

The file is read back and run beside the network before it gets its name. It also holds the entry's card: under the
metadata key ``card`` in ONNX, as the extra file ``card.json`` in the other two.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo import checkpoint, display, store
from zoo.cards import Card
from zoo.errors import ZooError, first_line, suggest
from zoo.models import EdgeConv, SetAbstraction
from zoo.utils import new_file

# Batch sizes: the one that is traced, and others at which the file must give the network's logits.
_TRACED, _CHECKED = 3, (1, 5)
# Another order of summation moves logits by 1e-6 of their norm, by up to 1e-4 where a network is deep, narrow and
# untrained. A network that searches neighbours can take another one where distances are equal up to rounding: the worst
# of 60 random clouds moved by 3e-3 (dgcnn-pruned-0.5x.shapes as ONNX, median 5e-7). A wrong file is off by about 1.
_TOLERANCE, _TOLERANCE_OF_SEARCH = 1e-3, 1e-2
# onnxscript looks through all nodes for each node that it might simplify: minutes for the unrolled loop of PointNet++.
_MOST_NODES = 3000
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """A file that was written, and ``errors``: batch size -> |file's logits - network's| / |network's|."""

    card: Card
    format: str
    path: Path
    size: int
    sha256: str
    errors: dict[int, float]
    tolerance: float

    def table(self) -> str:
        """The file and its bytes, and the relative error at each batch size."""
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
        return {
            "name": self.card.name,
            "format": self.format,
            "path": str(self.path),
            "size": self.size,
            "sha256": self.sha256,
            "relative_error": {str(batch): error for batch, error in self.errors.items()},
            "tolerance": self.tolerance,
        }


@dataclass(frozen=True)
class _Format:
    """suffix: how file names end; write: network, input, card -> the file's bytes; read: path -> what runs it."""

    suffix: str
    write: Callable[[nn.Module, Tensor, Card], bytes]
    read: Callable[[str], Callable[[Tensor], Tensor]]
    packages: tuple[str, ...] = ()


def export(
    name: str,
    *,
    format: str,
    out: str | Path | None = None,
    overwrite: bool = False,
    mirror: str | Sequence[str] | None = None,
) -> Exported:
    """Write the network of an entry as a file: input (B, *sample_shape) float32 -> logits (B, num_classes), any B.

    `format` is onnx, torch.export or torchscript. The file, ``<name>.onnx``, ``<name>.pt2`` or
    ``<name>.torchscript.pt`` in the current folder unless `out` says otherwise, appears whole or not at all, and only
    after it has been loaded (by onnxruntime, torch.export.load or torch.jit.load) and has given the network's logits
    for random inputs at two batch sizes other than the traced one. Mirrors are asked as by `zoo.store.fetch`.

    Raises:
        ZooError: no such entry or format, packages that are missing, a file that is there already and `overwrite` is
            not given, a network that the exporter cannot write, logits that differ by more than the tolerance, or a
            file that cannot be written. What had the name before is then as it was.
    """
    form = _FORMATS.get(format)
    if form is None:
        raise ZooError(f"there is no format {format!r}: {suggest(format, _FORMATS)}")
    if out is not None:
        _check_out(Path(out), format, overwrite=overwrite)
    _check_packages(format)
    source, card = store.fetch(name, mirror=mirror)
    path = Path(f"{card.name}{form.suffix}" if out is None else out).expanduser()
    _check_out(path, format, overwrite=overwrite)
    # Where parameters wait for a gradient, steps that write over their input could not run in the file.
    model = checkpoint.load(source).requires_grad_(False)
    search = any(isinstance(module, EdgeConv | SetAbstraction) for module in model.modules())
    tolerance = _TOLERANCE_OF_SEARCH if search else _TOLERANCE
    inputs = [_random(card, batch) for batch in _CHECKED]
    with torch.no_grad():
        truths = _logits(model, inputs, card)
        data = _written(form, format, model, card)
    with new_file(path) as file:
        file.write(data)
        file.flush()
        errors = _errors(form, format, file.name, inputs, truths)
        wrong = [f"{error:.1e}" for error in errors.values() if not error <= tolerance]  # NaN is no success either
        if wrong:
            raise ZooError(
                f"{card.name} as {format} gives other logits than the network: relative error {wrong[0]}, at most "
                f"{tolerance:.0e} is allowed; nothing was written, try another --format ({_others(format)})"
            )
    return Exported(card, format, path, len(data), hashlib.sha256(data).hexdigest(), errors, tolerance)


def _check_out(path: Path, format: str, *, overwrite: bool) -> None:
    ending = Path(f"name{_FORMATS[format].suffix}").suffix
    if not path.name.endswith(ending):
        raise ZooError(f"{path}: the name of a file in the format {format} ends in {ending}")
    if path.is_dir():
        raise ZooError(f"{path} is a folder: give the name of a file")
    if path.exists() and not overwrite:
        raise ZooError(f"{path} is there already: give another name with --out, or replace it with --overwrite")


def _check_packages(format: str) -> None:
    missing = [package for package in _FORMATS[format].packages if importlib.util.find_spec(package) is None]
    if missing:
        raise ZooError(
            f"the format {format} needs packages that are not installed ({', '.join(missing)}): "
            "type pip install 'pruned-zoo[export]'"
        )


def _random(card: Card, batch: int) -> Tensor:
    """The same numbers (batch, *sample_shape) each time, others for each batch size."""
    return torch.randn(batch, *card.sample_shape, generator=torch.Generator().manual_seed(batch))


def _logits(model: nn.Module, inputs: Sequence[Tensor], card: Card) -> list[Tensor]:
    try:
        return [model(x) for x in inputs]
    except RuntimeError as error:
        raise ZooError(
            f"{card.name} does not run on samples of the shape {card.sample_shape} that its card states "
            f"({first_line(error)}): set sample_shape in the card right"
        ) from error


def _written(form: _Format, format: str, model: nn.Module, card: Card) -> bytes:
    try:
        with _quiet():
            return form.write(model, _random(card, _TRACED), card)
    except Exception as error:  # three exporters, each with errors of its own
        raise ZooError(
            f"torch {torch.__version__} cannot write {card.name} as {format} ({first_line(error)}); "
            f"try another --format ({_others(format)}) or a newer torch"
        ) from error


def _errors(
    form: _Format, format: str, path: str, inputs: Sequence[Tensor], truths: Sequence[Tensor]
) -> dict[int, float]:
    """Batch size -> |found - truth| / |truth|, where found (B, num_classes) are the logits of the file."""
    errors = {}
    try:
        with _quiet():
            run = form.read(path)
            for x, truth in zip(inputs, truths, strict=True):
                found = run(x)
                if found.shape != truth.shape:
                    raise ZooError(f"its logits for a batch of {len(x)} have the shape {tuple(found.shape)}")
                size = truth.double().norm().clamp_min(torch.finfo(truth.dtype).tiny)
                errors[len(x)] = float((found.double() - truth.double()).norm() / size)
    except Exception as error:  # as above
        raise ZooError(
            f"the file in the format {format} does not run at other batch sizes than the traced {_TRACED} "
            f"({first_line(error)}); nothing was written, try another --format ({_others(format)})"
        ) from error
    return errors


def _others(format: str) -> str:
    return " or ".join(sorted(_FORMATS.keys() - {format}))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say of themselves and what does not concern the user."""
    with warnings.catch_warnings():
        # TorchScript is what was asked for, and torch says at each call that it has something newer.
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is (deprecated|not supported)", category)
        # Shapes but for the batch are constants, as they should be; that the batch is none is checked at two others.
        for message in ("Converting a tensor to a Python boolean", "Iterating over a tensor"):
            warnings.filterwarnings("ignore", message, torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield


# -- the formats ---------------------------------------------------------------------------------------------


def _write_torchscript(model: nn.Module, x: Tensor, card: Card) -> bytes:
    buffer = io.BytesIO()
    # Its own check runs the traced batch size once more; ours runs others.
    traced = torch.jit.trace(model, x, check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, buffer, _extra_files={"card.json": card.to_json()})
    return buffer.getvalue()


def _read_torchscript(path: str) -> Callable[[Tensor], Tensor]:
    return torch.jit.load(path)  # type: ignore[no-any-return, no-untyped-call]


def _program(model: nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    """The network as a graph whose batch is free, without the names of this machine's folders."""
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    program.example_inputs = None  # random numbers, for images more than some networks
    return program


def _write_program(model: nn.Module, x: Tensor, card: Card) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(_program(model, x), buffer, extra_files={"card.json": card.to_json()})
    return buffer.getvalue()


def _read_program(path: str) -> Callable[[Tensor], Tensor]:
    with open(path, "rb") as file:  # by its name it would have to end in .pt2 now
        return torch.export.load(file).module()


def _write_onnx(model: nn.Module, x: Tensor, card: Card) -> bytes:
    names: dict[str, Any] = {"input_names": ["input"], "output_names": ["logits"]}
    program = torch.onnx.export(_program(model, x), (), dynamo=True, verbose=False, optimize=False, **names)
    assert program is not None  # for the type checker: it is None only where dynamo=False
    if len(program.model_proto.graph.node) < _MOST_NODES:
        program.optimize()
    proto = program.model_proto
    graph = proto.graph
    # The exporter's notes on each node are longer than the node, and concern its authors.
    for each in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del each.metadata_props[:]
    _name_batch(graph)
    proto.metadata_props.add(key="card", value=card.to_json())
    return bytes(proto.SerializeToString())


def _name_batch(graph: Any) -> None:
    """Call the free dimension ``batch``; the exporter gives it the name of a symbol."""
    symbol = re.compile(rf"\b{re.escape(graph.input[0].type.tensor_type.shape.dim[0].dim_param)}\b")
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:  # the symbol, or a formula with it: 24*s77
                dim.dim_param = symbol.sub("batch", dim.dim_param)


def _read_onnx(path: str) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; its remarks on what it could not fold are not for the user
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["logits"], {"input": x.numpy()})[0])


_FORMATS = {
    "onnx": _Format(".onnx", _write_onnx, _read_onnx, _PACKAGES),
    "torch.export": _Format(".pt2", _write_program, _read_program),
    "torchscript": _Format(".torchscript.pt", _write_torchscript, _read_torchscript),
}
