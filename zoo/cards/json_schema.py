"""Frozen dataclasses to and from JSON, strictly: an undeclared field, or one of another type, is refused.

Fields may have the types str, int, float, bool, None and unions of them, ``tuple[X, ...]`` (a JSON list),
``dict[str, X]``, and other such dataclasses. True is not a number, 1 is accepted as a float, NaN is refused.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, partial
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from zoo.errors import ZooError, excerpt
from zoo.utils import parse_json

Record = TypeVar("Record")
Reader = Callable[[object, str], Any]  # of a JSON value, and of where it stands, for messages

_MAX_NUMBER = 1e18  # above every count of a card
MAX_LIST = 1000  # a record holds settings, counts and names of classes, not data
MAX_TEXT = 10_000  # characters; the longest text is a command
MAX_LABEL = 200  # characters of what stands in a cell of a table


def loads(text: str | bytes) -> object:
    """The value of a JSON text without duplicate fields, NaN and Infinity (`zoo.utils.parse_json`).

    Raises:
        ZooError: the text is not JSON, or holds one of these.
    """
    try:
        return parse_json(text)
    except ValueError as error:
        raise ZooError(f"it is not JSON: {error}") from error


def dumps(record: object) -> str:
    """A record as JSON text: sorted keys, fields of None left out, a newline at the end; equal records, equal text."""
    return json.dumps(_to_json(record), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read(kind: type[Record], value: object, where: str) -> Record:
    """Build a dataclass from a JSON object, with the names and types of all fields checked.

    A field ``schema`` is required even if the class has a default for it. ``where`` begins the messages.

    Raises:
        ZooError: an unknown or missing field, or one of another type, or too long.
    """
    if not isinstance(value, dict):
        raise ZooError(f"{where}: expected an object, got {_as_json(value)}")
    readers, needed = _fields_of(cast(Any, kind))
    if unknown := value.keys() - readers.keys():
        raise ZooError(f"{where}: unknown field {excerpt(min(unknown))}; possible are {', '.join(sorted(readers))}")
    if missing := needed - value.keys():
        raise ZooError(f"{where}: the field {min(missing)} is missing")
    return kind(**{key: readers[key](item, f"{where}: {key}") for key, item in value.items()})


@cache
def _fields_of(kind: type) -> tuple[dict[str, Reader], set[str]]:
    """The readers of a dataclass's fields, and the fields that must be there.

    Kept for each class: a card's type hints take ten times as long as its values, and a zoo has thousands of cards.
    """
    readers = {name: _reader(hint) for name, hint in get_type_hints(kind).items()}
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    return readers, needed | {"schema"} & readers.keys()


@cache
def _reader(kind: Any) -> Reader:
    """What reads a JSON value as the annotated type: a dataclass, a tuple, a dictionary, or one of several scalars."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return partial(read, cast(type[Any], kind))
    if origin is tuple:
        return partial(_read_list, _reader(inner[0]))
    if origin is dict:
        return partial(_read_dict, _reader(inner[1]))
    return partial(_read_one, inner if origin in (Union, types.UnionType) else (kind,))


def _read_list(reader: Reader, value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) > MAX_LIST:
        raise ZooError(f"{where}: expected a list of at most {MAX_LIST}, got {_as_json(value)}")
    return tuple(reader(item, f"{where}[{index}]") for index, item in enumerate(value))


def _read_dict(reader: Reader, value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or len(value) > MAX_LIST:
        raise ZooError(f"{where}: expected an object of at most {MAX_LIST} fields, got {_as_json(value)}")
    for key in value:
        _check_text(key, where)
    return {key: reader(item, f"{where}: {key}") for key, item in value.items()}


def _read_one(choices: tuple[Any, ...], value: object, where: str) -> Any:
    """The JSON value as one of several types."""
    if isinstance(value, str):
        _check_text(value, where)
    elif isinstance(value, float | int) and not abs(value) < _MAX_NUMBER:  # JSON's 1e999 as well
        raise ZooError(f"{where}: the number is too large")
    if type(value) in choices:
        return value
    if float in choices and type(value) is int:
        return float(value)
    for choice in choices:
        if isinstance(value, list if get_origin(choice) is tuple else dict if is_dataclass(choice) else ()):
            return _reader(choice)(value, where)
    expected = " or ".join(_type_name(choice) for choice in choices)
    raise ZooError(f"{where}: expected {expected}, got {_as_json(value)}")


def _check_text(text: str, where: str) -> None:
    if len(text) > MAX_TEXT:
        raise ZooError(f"{where}: {_as_json(text)} has {len(text)} characters; at most {MAX_TEXT} are allowed")
    if not text.isprintable():  # it could hold control sequences for the terminal
        raise ZooError(f"{where}: {_as_json(text)} holds a line break or another sign that cannot be printed")


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


def check_label(what: str, text: str) -> None:
    """Raise ZooError for a text that is too long for a cell of a table."""
    if len(text) > MAX_LABEL:
        raise ZooError(f"{what} {excerpt(text)} has {len(text)} characters; at most {MAX_LABEL} are allowed")


def _as_json(value: object) -> str:
    return excerpt(value, json.dumps)
