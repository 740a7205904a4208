"""Frozen dataclasses to and from JSON, strictly: an undeclared field, or one of another type, is refused.

Fields may have the types str, int, float, bool, None and unions of them, ``tuple[X, ...]`` (a JSON list),
``dict[str, X]``, and other such dataclasses. True is not a number, 1 is accepted as a float, NaN is refused.
"""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from zoo.errors import ZooError

Record = TypeVar("Record")

_MAX_NUMBER = 1e18  # above every count of a card
MAX_LIST = 1000  # a record holds settings, counts and names of classes, not data


def loads(text: str | bytes) -> object:
    """The value of a JSON text without duplicate fields, NaN and Infinity.

    Raises:
        ZooError: the text is not JSON, or holds one of these.
    """
    try:
        return cast(object, json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant))
    except (ValueError, RecursionError) as error:
        raise ZooError(f"it is not JSON: {error}") from error


def dumps(record: object) -> str:
    """A record as JSON text: sorted keys, fields of None left out, a newline at the end; equal records, equal text."""
    return json.dumps(_to_json(record), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read(kind: type[Record], value: object, where: str) -> Record:
    """Build a dataclass from a JSON object, with the names and types of all fields checked.

    A field ``schema`` is required even if the class has a default for it. ``where`` begins the messages.

    Raises:
        ZooError: an unknown or missing field, or one of another type.
    """
    if not isinstance(value, dict):
        raise ZooError(f"{where}: expected an object, got {_excerpt(value)}")
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
    """The JSON value as the annotated type: a dataclass, a tuple, a dictionary, or one of several scalars."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return read(cast(type[Any], kind), value, where)
    if origin is tuple:
        if not isinstance(value, list) or len(value) > MAX_LIST:
            raise ZooError(f"{where}: expected a list of at most {MAX_LIST}, got {_excerpt(value)}")
        return tuple(_read(inner[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ZooError(f"{where}: expected an object, got {_excerpt(value)}")
        for key in value:
            if not key.isprintable():
                raise ZooError(f"{where}: the name {_excerpt(key)} holds a sign that cannot be printed")
        return {key: _read(inner[1], item, f"{where}: {key}") for key, item in value.items()}
    choices = inner if origin in (Union, types.UnionType) else (kind,)
    if isinstance(value, float | int) and not abs(value) < _MAX_NUMBER:  # JSON's 1e999 as well
        raise ZooError(f"{where}: the number is too large")
    if isinstance(value, str) and not value.isprintable():  # it could hold control sequences for the terminal
        raise ZooError(f"{where}: {_excerpt(value)} holds a line break or another sign that cannot be printed")
    if type(value) in choices:
        return value
    if float in choices and type(value) is int:
        return float(value)
    for choice in choices:
        if isinstance(value, list if get_origin(choice) is tuple else dict if is_dataclass(choice) else ()):
            return _read(choice, value, where)
    expected = " or ".join(_type_name(choice) for choice in choices)
    raise ZooError(f"{where}: expected {expected}, got {_excerpt(value)}")


def _type_name(kind: Any) -> str:
    if kind is types.NoneType:
        return "null"
    return "list" if get_origin(kind) is tuple else "object" if is_dataclass(kind) else str(kind.__name__)


def _to_json(value: object) -> object:
    if is_dataclass(value):
        items = ((f.name, getattr(value, f.name)) for f in fields(value))
        return {name: _to_json(item) for name, item in items if item is not None}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    return value


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields_by_name = dict(pairs)
    if len(fields_by_name) != len(pairs):
        raise ValueError("a field stands there twice")
    return fields_by_name


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is not a number")


def _excerpt(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
