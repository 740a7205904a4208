"""The formats of `zoo.export` by name, and what can be known without torch to be wrong with a file to write."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from zoo import store
from zoo.cards import parse_name
from zoo.errors import ZooError, suggest
from zoo.utils import expand_path


@dataclass(frozen=True)
class ExportTarget:
    """One format.

    name      as users write it
    suffix    ending of the file names
    packages  optional packages that the format needs
    """

    name: str
    suffix: str
    packages: tuple[str, ...] = ()


TARGETS = {
    target.name: target
    for target in (
        ExportTarget("onnx", ".onnx", ("onnx", "onnxscript", "onnxruntime")),
        ExportTarget("torch.export", ".pt2"),
        ExportTarget("torchscript", ".torchscript.pt"),
    )
}


def check_export(format: str, out: str | Path | None, *, overwrite: bool) -> ExportTarget:
    """The format of that name. Raises ZooError for an unknown one, one whose packages are missing, and a file that
    cannot be written, or is there already unless `overwrite` is set."""
    target = TARGETS.get(format)
    if target is None:
        raise ZooError(f"there is no format {format!r}: {suggest(format, TARGETS)}")
    if out is not None:
        check_new_file(expand_path(out), Path(f"name{target.suffix}").suffix, f"of a file in the format {format}",
                       overwrite=overwrite)  # fmt: skip
    missing = [package for package in target.packages if find_spec(package) is None]
    if missing:
        raise ZooError(
            f"the format {format} needs packages that are not installed ({', '.join(missing)}): "
            "type pip install 'pruned-zoo[export]'"
        )
    return target


def check_new_file(path: Path, ending: str, what: str, *, overwrite: bool) -> None:
    """Raise ZooError unless a file of that name, with that ending, may be written."""
    if not path.name.endswith(ending):
        raise ZooError(f"{path}: the name {what} ends in {ending}")
    if path.is_dir():
        raise ZooError(f"{path} is a folder: give the name of a file")
    if path.exists() and not overwrite:
        raise ZooError(f"{path} is there already: give another name with `out`, or replace it with `overwrite=True`")


def check_new_checkpoint(out: str | Path | None, add: str | None, *, overwrite: bool) -> Path | None:
    """The path of a checkpoint to write, if one is asked for. Raises ZooError unless that file, and the name of an
    entry to add, may be written."""
    if out is None and add is None:
        raise ZooError("say where the checkpoint goes: `out=FILE.safetensors`, or `add=NAME` for your zoo")
    if add is not None:
        parse_name(add)
        if store.is_shipped(add):
            raise ZooError(f"{add} is the name of an entry that is shipped: give yours another one with `add`")
        if (store.user_dir() / f"{add}.json").exists() and not overwrite:
            raise ZooError(
                f"your zoo has an entry {add} already: give another name with `add`, or replace it with "
                "`overwrite=True`"
            )
    if out is None:
        return None
    path = expand_path(out)
    check_new_file(path, ".safetensors", "of a checkpoint", overwrite=overwrite)
    return path
