"""Frozen dataclasses as JSON, strictly: what is not declared, or not of the declared type, is refused with a reason.

Types that fields may have: str, int, float, bool, None and unions of them, ``tuple[X, ...]`` (a JSON list),
``dict[str, X]`` and other such dataclasses. True is no number, 1 is a float where one is declared, NaN is nothing.
"""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from zoo.errors import ZooError

Record = TypeVar("Record")

_TOO_LARGE = 1e18  # of anything that a card counts
_LONGEST_LIST = 64  # a record holds settings and counts, not data


def loads(text: str | bytes) -> object:
    """The value of a JSON text in which no field stands twice and every number is one.

    Raises:
        ZooError: it is no such text.
    """
    try:
        return cast(object, json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant))
    except (ValueError, RecursionError) as error:
        raise ZooError(f"it is not JSON: {error}") from error


def dumps(record: object) -> str:
    """A record as JSON: the same record gives the same text, keys sorted, absent fields left out, a newline last."""
    return json.dumps(_plain(record), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read(kind: type[Record], value: object, where: str) -> Record:
    """Build a dataclass from a JSON object; names and types of all its fields are checked.

    A field named ``schema`` must be there even where the class has a default for it.

    Raises:
        ZooError: an unknown, missing or wrongly typed field; ``where`` begins the message.
    """
    if not isinstance(value, dict):
        raise ZooError(f"{where}: expected an object, got {_short(value)}")
    hints = get_type_hints(kind)
    unknown = sorted(value.keys() - hints.keys())
    if unknown:
        raise ZooError(f"{where}: unknown field {unknown[0]!r}; possible are {', '.join(sorted(hints))}")
    needed = {f.name for f in fields(cast(Any, kind)) if f.default is MISSING and f.default_factory is MISSING}
    missing = sorted((needed | {"schema"} & hints.keys()) - value.keys())
    if missing:
        raise ZooError(f"{where}: the field {missing[0]} is missing")
    return kind(**{key: _read(hints[key], item, f"{where}: {key}") for key, item in value.items()})


def _read(kind: Any, value: object, where: str) -> Any:
    """The JSON value as the annotated type: a record, a tuple, a dictionary, or one of several scalars."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return read(cast(type[Any], kind), value, where)
    if origin is tuple:
        if not isinstance(value, list) or len(value) > _LONGEST_LIST:
            raise ZooError(f"{where}: expected a list of at most {_LONGEST_LIST}, got {_short(value)}")
        return tuple(_read(inner[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ZooError(f"{where}: expected an object, got {_short(value)}")
        for key in value:
            if not key.isprintable():
                raise ZooError(f"{where}: the name {_short(key)} holds a sign that cannot be printed")
        return {key: _read(inner[1], item, f"{where}: {key}") for key, item in value.items()}
    choices = inner if origin in (Union, types.UnionType) else (kind,)
    if isinstance(value, float | int) and not abs(value) < _TOO_LARGE:  # JSON's 1e999 as well
        raise ZooError(f"{where}: the number is too large")
    if isinstance(value, str) and not value.isprintable():  # a terminal would obey some of it
        raise ZooError(f"{where}: {_short(value)} holds a line break or another sign that cannot be printed")
    if type(value) in choices:
        return value
    if float in choices and type(value) is int:
        return float(value)
    for choice in choices:
        if isinstance(value, list if get_origin(choice) is tuple else dict if is_dataclass(choice) else ()):
            return _read(choice, value, where)
    expected = " or ".join(_called(choice) for choice in choices)
    raise ZooError(f"{where}: expected {expected}, got {_short(value)}")


def _called(kind: Any) -> str:
    if kind is types.NoneType:
        return "null"
    return "list" if get_origin(kind) is tuple else "object" if is_dataclass(kind) else str(kind.__name__)


def _plain(value: object) -> object:
    if is_dataclass(value):
        items = ((f.name, getattr(value, f.name)) for f in fields(value))
        return {name: _plain(item) for name, item in items if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands there twice")
    return found


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not a number")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
