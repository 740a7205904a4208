"""The formats of `zoo.export`: how a network is written in each, and how the file is run."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.cards import Card
from zoo.export_targets import TARGETS, ExportTarget

# onnxscript searches all nodes for every node that it simplifies: minutes for the unrolled loop of PointNet++.
_MAX_NODES_TO_OPTIMIZE = 3000


@dataclass(frozen=True)
class ExportFormat:
    """How one format is written and read.

    target  its name, its ending and its packages
    write   (network, input, card, smallest number of points that is free, None for fixed) -> bytes of the file
    read    path -> function from inputs to logits
    """

    target: ExportTarget
    write: Callable[[nn.Module, Tensor, Card, int | None], bytes]
    read: Callable[[str], Callable[[Tensor], Tensor]]

    @property
    def name(self) -> str:
        return self.target.name


@contextmanager
def quiet() -> Iterator[None]:
    """A context without the exporters' warnings that do not concern the user."""
    with warnings.catch_warnings():
        # torch recommends something newer at each call, but the user has chosen TorchScript.
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is (deprecated|not supported)", category)
        # All sizes but the batch become constants, as they should; two other batch sizes are checked later.
        for message in ("Converting a tensor to a Python boolean", "Iterating over a tensor"):
            warnings.filterwarnings("ignore", message, torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield


def _write_torchscript(model: nn.Module, x: Tensor, card: Card, min_points: int | None) -> bytes:
    buffer = io.BytesIO()
    # check_trace would run the traced batch size again; `export` checks others.
    traced = torch.jit.trace(model, x, check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, buffer, _extra_files={"card.json": card.to_json()})
    return buffer.getvalue()


def _read_torchscript(path: str) -> Callable[[Tensor], Tensor]:
    return torch.jit.load(path)  # type: ignore[no-any-return, no-untyped-call]


def _program(model: nn.Module, x: Tensor, min_points: int | None) -> torch.export.ExportedProgram:
    """The network as a graph with free sizes, without the names of folders of this machine."""
    batch = torch.export.Dim("batch", min=1)
    free: dict[int, Any] = {0: batch}
    if min_points is not None:
        free[2] = torch.export.Dim("points", min=min_points)
    program = torch.export.export(model, (x,), dynamic_shapes=(free,))
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    program.example_inputs = None  # random numbers; for images they are larger than some networks
    return program


def _write_program(model: nn.Module, x: Tensor, card: Card, min_points: int | None) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(_program(model, x, min_points), buffer, extra_files={"card.json": card.to_json()})
    return buffer.getvalue()


def _read_program(path: str) -> Callable[[Tensor], Tensor]:
    with open(path, "rb") as file:  # given a path, torch.export.load requires the ending .pt2
        return torch.export.load(file).module()


def _write_onnx(model: nn.Module, x: Tensor, card: Card, min_points: int | None) -> bytes:
    names: dict[str, Any] = {"input_names": ["input"], "output_names": ["logits"]}
    program = torch.onnx.export(_program(model, x, min_points), (), dynamo=True, verbose=False, optimize=False, **names)
    assert program is not None  # for the type checker: it is None only where dynamo=False
    if len(program.model_proto.graph.node) < _MAX_NODES_TO_OPTIMIZE:
        program.optimize()
    proto = program.model_proto
    graph = proto.graph
    # The exporter's metadata of a node is longer than the node, and describes the exporter's source code.
    for item in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del item.metadata_props[:]
    _name_free_sizes(graph)
    proto.metadata_props.add(key="card", value=card.to_json())
    return bytes(proto.SerializeToString())


def _name_free_sizes(graph: Any) -> None:
    """Rename the free dimensions to ``batch`` and ``points``; the exporter names them by symbols such as s77."""
    sizes = graph.input[0].type.tensor_type.shape.dim
    for size, name in zip((sizes[0], sizes[-1]), ("batch", "points"), strict=True):
        if not size.dim_param:  # the last one of images, and of clouds with a fixed number of points
            continue
        symbol = re.compile(rf"\b{re.escape(size.dim_param)}\b")
        for value in (*graph.input, *graph.output, *graph.value_info):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param:  # the symbol, or a formula with it: 24*s77
                    dim.dim_param = symbol.sub(name, dim.dim_param)


def _read_onnx(path: str) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: warnings on constant folding do not concern the user
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(["logits"], {"input": x.numpy()})[0])


FORMATS = {
    "onnx": ExportFormat(TARGETS["onnx"], _write_onnx, _read_onnx),
    "torch.export": ExportFormat(TARGETS["torch.export"], _write_program, _read_program),
    "torchscript": ExportFormat(TARGETS["torchscript"], _write_torchscript, _read_torchscript),
}
