"""Records of settings (dataclasses, nested or not) and text of the form `search.eps_tolerance=0.1`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args, get_type_hints

from zoo.errors import ZooError, suggest

_BOOLS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def setting_types(record: type, prefix: str = "") -> dict[str, type]:
    """Dotted name -> type of every field of a record and of the records in it; of `X | None` the type is X."""
    types: dict[str, type] = {}
    hints = get_type_hints(record)
    for field in fields(record):
        kind = next((arg for arg in get_args(hints[field.name]) if arg is not type(None)), hints[field.name])
        name = f"{prefix}{field.name}"
        nested = isinstance(kind, type) and is_dataclass(kind)
        types |= setting_types(kind, f"{name}.") if nested else {name: kind}
    return types


def settings_of(record: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of every field of a record and of the records in it."""
    settings: dict[str, Any] = {}
    for field in fields(record):
        value, name = getattr(record, field.name), f"{prefix}{field.name}"
        settings |= settings_of(value, f"{name}.") if is_dataclass(value) else {name: value}
    return settings


def parse_setting(text: str, types: Mapping[str, type]) -> tuple[str, Any]:
    """Name and value of `name=value`, the value of the type that `setting_types` gives for the name.

    Raises ZooError for an unknown name, with near ones, and for a value of another type.
    """
    name, equals, word = (part.strip() for part in text.partition("="))
    if not equals:
        raise ZooError(f"{text!r} is no setting: write its name, = and its value")
    if name not in types:
        raise ZooError(f"there is no setting {name!r}: {suggest(name, types)}")
    kind = types[name]
    try:
        return name, _BOOLS[word.lower()] if kind is bool else kind(word)
    except (KeyError, ValueError):
        raise ZooError(f"{name} takes {_KINDS.get(kind, kind.__name__)}; got {word!r}") from None


def with_settings(record: Any, settings: Mapping[str, Any]) -> Any:
    """The record with these values by dotted name in place of its own."""
    changes: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        first, _, rest = name.partition(".")
        if rest:
            nested.setdefault(first, {})[rest] = value
        else:
            changes[first] = value
    changes |= {name: with_settings(getattr(record, name), inner) for name, inner in nested.items()}
    return replace(record, **changes)
