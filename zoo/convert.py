"""Converting weights of other programs, pickled files among them, to the zoo's checkpoints.

No code from such a file runs. The caller names the network; its classes and widths follow from the weights' shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo import checkpoint, display, models
from zoo.errors import ZooError, suggest
from zoo.models import groups_of

# Arguments of a builder, beside classes and widths, that the shapes determine. DGCNN's k, which they do not, stays 20.
_OPTIONS: dict[str, Callable[[Mapping[str, Tensor]], dict[str, Any]]] = {
    "mlp": lambda state: {"in_features": _size(state, "hidden1.weight", 1)} if "hidden1.weight" in state else {},
    "vgg11": lambda state: {"head": "full" if "classifier.6.weight" in state else "linear"},
}


@dataclass(frozen=True)
class ConversionResult:
    """A checkpoint that was written, and what the shapes of the weights say about the network.

    `dense` has the widths of the dense network, for comparison with `widths`.
    """

    source: Path
    path: Path
    arch: str
    num_classes: int
    options: dict[str, Any]
    widths: dict[str, int]
    dense: dict[str, int]
    parameters: int
    size: int
    sha256: str

    def table(self) -> str:
        """The network, the groups that are narrower than in the dense network, and the file with its SHA-256."""
        options = ", ".join(f"{name} {value}" for name, value in self.options.items())
        narrow = [f"{name} {n} of {self.dense[name]}" for name, n in self.widths.items() if n != self.dense[name]]
        return display.table(
            [
                ("network", f"{self.arch}{f' ({options})' if options else ''}"),
                ("classes", str(self.num_classes)),
                ("widths", ", ".join(narrow) or "those of the dense network"),
                ("parameters", str(self.parameters)),
                ("file", str(self.path)),
                ("size", f"{self.size} bytes"),
                ("SHA-256", self.sha256),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        fields = {**vars(self), "source": str(self.source), "path": str(self.path)}
        del fields["dense"]
        return fields


def convert(
    source: str | Path, *, arch: str, out: str | Path, num_classes: int | None = None, overwrite: bool = False
) -> ConversionResult:
    """Write the weights of a .pt, .pth or .safetensors file as a checkpoint that `zoo.checkpoint.load` reads.

    num_classes  by default the number of rows of the last layer
    out          a file ending in .safetensors, which appears complete or not at all

    The width of a group is the number of rows of its first writer. The file must have exactly the tensors of the
    network. Weights of the DGCNN authors' code are renamed.

    Raises ZooError for an unknown network, a missing file, a file without weights or with code, weights that do not fit
    (with the first tensor), and an `out` that exists, unless `overwrite` is set, or cannot be written.
    """
    source, path = Path(source).expanduser(), Path(out).expanduser()
    if arch not in models.ARCHS:
        raise ZooError(f"there is no network {arch!r}: {suggest(arch, models.ARCHS)}")
    if num_classes is not None and num_classes < 1:
        raise ZooError(f"{num_classes} classes are too few: give 1 or more, or leave `num_classes` out")
    if num_classes is not None and num_classes > (most := checkpoint.MAX_CLASSES):
        raise ZooError(f"{num_classes} classes are too many: give {most} at most, or leave `num_classes` out")
    if path.suffix != ".safetensors":
        raise ZooError(f"{path}: the name of a checkpoint ends in .safetensors")
    if path.exists() and not overwrite:
        raise ZooError(f"{path} is there already: give another name with `out`, or replace it with `overwrite=True`")
    state = read_weights(source, arch)
    options = _OPTIONS[arch](state) if arch in _OPTIONS else {}
    with torch.device("meta"):  # names alone: no memory, no initialisation
        dense = models.build(arch, **options)
    classes = _classes(dense, state, source, arch) if num_classes is None else num_classes
    model = models.build(arch, num_classes=classes, widths=_widths(dense, state), **options)
    checkpoint.load_weights(model, state, source=str(source))
    size, sha256 = checkpoint.save(model, path, arch=arch, num_classes=classes, options=options)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    widths = (models.widths_of(model), models.widths_of(dense))
    return ConversionResult(source, path, arch, classes, options, *widths, parameters, size, sha256)


def read_weights(path: Path, arch: str) -> dict[str, Tensor]:
    """The tensors of a file (`zoo.checkpoint.read_state`) under their names in the zoo's network.

    Raises ZooError as `read_state` does, and for a tensor that is not part of the DGCNN authors' network.
    """
    state = checkpoint.read_state(path)
    if arch == "dgcnn" and "conv1.0.weight" in state:
        from zoo.models import from_authors

        return from_authors(state)
    return state


def _classes(dense: nn.Module, state: Mapping[str, Tensor], source: Path, arch: str) -> int:
    """The number of rows of the last linear layer."""
    layer = [name for name, module in dense.named_modules() if isinstance(module, nn.Linear)][-1]
    if f"{layer}.weight" not in state:
        begin = ", ".join(sorted(state)[:3])
        raise ZooError(
            f"{source} has no {layer}.weight, the last layer of {arch}; its tensors begin with {begin}: "
            "say with `arch` which network they are of"
        )
    return _size(state, f"{layer}.weight", 0)


def _widths(dense: nn.Module, state: Mapping[str, Tensor]) -> dict[str, int]:
    """Group -> number of rows of its first writer, for the groups whose first writer is in the file."""
    names = {module: name for name, module in dense.named_modules()}
    weights = {group.name: f"{names[group.writers[0]]}.weight" for group in groups_of(dense)}
    return {group: _size(state, weight, 0) for group, weight in weights.items() if weight in state}


def _size(state: Mapping[str, Tensor], name: str, axis: int) -> int:
    """The size along an axis of a tensor that must be a layer's weight."""
    shape = state[name].shape
    if len(shape) < 2 or 0 in shape:
        raise ZooError(f"{name} has the shape {list(shape)} in the file: a layer's weight has rows and columns")
    return shape[axis]
