"""The weights in what a training script saved: below which keys they lie, and which prefixes their names have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.checkpoint.numpy_pickles import Array
from zoo.errors import ZooError

# Keys under which training scripts save weights, in the order in which they are taken: averaged weights are those that
# were evaluated (timm's order, too).
KEYS = (
    "state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict", "model", "net", "network",
    "module",
)  # fmt: skip
_PREFIXES = ("module.", "model.", "net.")  # of DataParallel, Lightning and wrappers by hand
_COMPILED = "_orig_mod."  # of torch.compile, of the whole network or of a part
_MAX_KEY = 100  # letters of a key that are shown
_MAX_DEPTH = 8  # a pickle may hold itself


@dataclass(frozen=True)
class FoundWeights:
    """The tensors of a file by name, the key that they were found under, and other keys that hold weights."""

    state: dict[str, Tensor]
    key: str = ""
    others: tuple[str, ...] = ()

    @property
    def remark(self) -> str:
        """What was taken and how to take another; empty where there was no choice."""
        if not self.others:
            return ""
        keys = " or ".join(f"--key {other}" for other in self.others)
        return f"the weights under {self.key} were taken; `zoo convert {keys}` takes the others"


def find_weights(content: object, source: Path, *, key: str | None = None) -> FoundWeights:
    """The weights in the content of a file; `key` says below which key they lie, dots between several.

    Raises ZooError where there are none, with the keys that there are.
    """
    keys, node = [], content
    if key is not None:
        node = _below(content, key, source)
        keys.append(key)
    others: list[str] = []
    for _ in range(_MAX_DEPTH):
        inner = [name for name in KEYS if isinstance(node, dict) and _holds_tensors(node.get(name))]
        if not inner:
            break
        others += [".".join([*keys, name]) for name in inner[1:]]
        keys.append(inner[0])
        node = node[inner[0]]  # type: ignore[index]  # a dictionary, by the line above
    state = _tensors(node)
    if not state:
        where = f" under the key {'.'.join(keys)}" if keys else ""
        raise ZooError(f"{source} holds no weights{where}: {_what_there_is(node, keys)}")
    return FoundWeights(state, ".".join(keys), tuple(others))


def strip_prefixes(state: Mapping[str, Tensor], expected: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors without the prefixes that DataParallel, Lightning and torch.compile put before all names.

    expected  the names of the network; where one of them is reached, no more is removed, and with these any prefix is
              removed that all names have
    """
    stripped = {name.replace(_COMPILED, ""): tensor for name, tensor in state.items()}
    if len(stripped) < len(state):  # two names that differ by the prefix: it says which is which
        stripped = dict(state)
    if "n_averaged" not in expected:  # the counter of torch.optim.swa_utils.AveragedModel
        stripped.pop("n_averaged", None)
    while stripped and not any(name in expected for name in stripped):
        first = next(iter(stripped)).partition(".")[0] + "."
        if not all(name.startswith(first) and name != first for name in stripped):
            break
        if not expected and first not in _PREFIXES:
            break
        stripped = {name.removeprefix(first): tensor for name, tensor in stripped.items()}
    return stripped


def _below(content: object, key: str, source: Path) -> object:
    node = content
    for part in [key] if isinstance(content, dict) and key in content else key.split("."):
        if not isinstance(node, dict) or part not in node:
            raise ZooError(f"{source} has no key {key}: {_what_there_is(content, [])}")
        node = node[part]
    return node


def _holds_tensors(node: object) -> bool:
    return isinstance(node, dict) and any(isinstance(value, Tensor | Array | dict) for value in node.values())


def _tensors(node: object) -> dict[str, Tensor]:
    """The tensors by name, arrays of NumPy among them; numbers and text beside them are left out."""
    items = node.items() if isinstance(node, dict) else ()
    values = {name: value.value if isinstance(value, Array) else value for name, value in items}
    return {name: value for name, value in values.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _what_there_is(node: object, keys: list[str]) -> str:
    """The keys that there are; how to choose one of those that hold tensors."""
    if not isinstance(node, dict):
        return f"expected tensors by name, a model's state_dict(), and found a {type(node).__name__}"
    if not node:
        return "it is an empty dictionary"
    found = ", ".join(map(_key_text, list(node.items())[:8])) + (", ..." if len(node) > 8 else "")
    usable = [name for name, value in node.items() if isinstance(name, str) and _holds_tensors(value)]
    if usable:
        return f"its keys are {found}; `zoo convert --key {'.'.join([*keys, usable[0]])}` takes those"
    return f"its keys are {found}, and none holds tensors by name, a model's state_dict()"


def _key_text(item: tuple[Any, Any]) -> str:
    key, value = item
    count = len(_tensors(value))
    text = str(key)[:_MAX_KEY]
    return f"{text} ({count} tensors)" if count else text
