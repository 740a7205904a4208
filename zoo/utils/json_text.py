"""JSON from files that anybody may have written."""

from __future__ import annotations

import json
from typing import cast

from zoo.errors import excerpt

MAX_DEPTH = 64  # lists and objects within each other; what reads a deeper value would exhaust Python's stack


def parse_json(text: str | bytes, *, strict: bool = True) -> object:
    """The value of a JSON text that is not nested more than `MAX_DEPTH` times.

    strict  no object may hold a field twice, and NaN and Infinity are no numbers

    Raises:
        ValueError: the text is none; says why.
    """
    hooks = {"object_pairs_hook": _without_duplicates, "parse_constant": _refuse_constant} if strict else {}
    try:
        value = json.loads(text, **hooks)  # type: ignore[arg-type]  # the hooks are what json documents
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    brackets = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    level, depth = ([value], 0) if brackets > MAX_DEPTH else ([], 0)  # a card has ten of them
    while level := [item for value in level for item in _inside(value)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
    return cast(object, value)


def _inside(value: object) -> list[object]:
    """The lists and objects that a list or an object holds."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, list | dict)]


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands there twice")
    return fields


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{excerpt(text, str)} is not a number")
