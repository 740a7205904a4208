"""Terms of use: four licence fields that stand apart on every card, the code's, the weights', the data's, the parent's.

They are plain text, because most terms of weights and data have no short name. Nothing here is legal advice: the
fields repeat what the owners say, and ``unknown`` stands where nobody has said anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.datasets import record
from zoo.errors import ZooError

UNKNOWN = "unknown"
# Not "none": beside a licence that would read as "no terms, do as you like".
NO_PARENT = "no parent"

LICENCE_TITLES = {"code": "code", "weights": "weights", "data": "training data", "parent": "parent's weights"}


@dataclass(frozen=True, kw_only=True)
class Licences:
    """Terms of the code, the weights, the training data, and the weights of the parent (or ``no parent``)."""

    code: str
    weights: str
    data: str
    parent: str

    def __post_init__(self) -> None:
        for name in LICENCE_TITLES:
            if not getattr(self, name).strip():
                or_that = f", or {NO_PARENT!r} where there is none" if name == "parent" else ""
                raise ZooError(f"licences: {name} is empty; write {UNKNOWN!r} where it is not known{or_that}")

    def line(self) -> str:
        """All four in one line.

        >>> Licences(code="MIT", weights="MIT", data="CC-BY-4.0", parent="no parent").line()
        'code: MIT; weights: MIT; training data: CC-BY-4.0; no parent'
        """
        parts = (text if text == NO_PARENT else f"{LICENCE_TITLES[kind]}: {text}" for kind, text in vars(self).items())
        return "; ".join(parts)


def check_parent(licences: Licences, parent: str | None) -> None:
    """See that the parent's terms are stated where there is a parent, and only there.

    Raises:
        ZooError: they are not; says what to write.
    """
    if parent is None and licences.parent != NO_PARENT:
        raise ZooError(f"licences: parent is {licences.parent!r}, but the card names no parent; write {NO_PARENT!r}")
    if parent is not None and licences.parent == NO_PARENT:
        raise ZooError(
            f"licences: parent is {NO_PARENT!r}, but the card's parent is {parent}; "
            f"write the terms of its weights, or {UNKNOWN!r}"
        )


def licences_of_trained(dataset: str, parent: str = NO_PARENT) -> Licences:
    """The terms of weights that this package trained on a data set, from a parent with these terms if from any.

    Weights learnt from data that is not ours inherit its terms, as far as anyone can tell.

    Raises:
        ZooError: no data set of that name is known.
    """
    data = record(dataset)
    weights = data.weights_terms or f"as the data: {data.terms}"
    return Licences(code="Apache-2.0", weights=weights, data=data.terms, parent=parent)


def from_schema_1(data: dict[str, Any]) -> dict[str, Any]:
    """The JSON object of a card of schema 1, which had no terms of the parent, as one of schema 2."""
    changed: dict[str, Any] = {**data, "schema": 2}
    if isinstance(data.get("licences"), dict):  # what is no object is refused later, with the reason
        terms = UNKNOWN if data.get("parent") is not None else NO_PARENT
        changed["licences"] = {"parent": terms, **data["licences"]}
    return changed
