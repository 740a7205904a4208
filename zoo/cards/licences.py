"""Terms of use: the licences of code, weights, training data and parent, four separate fields of every card.

The fields are plain text, because most terms of weights and data have no short name. They repeat what the owners state,
and ``unknown`` stands where an owner states nothing. Nothing here is legal advice.
"""

from __future__ import annotations

from dataclasses import dataclass

from zoo.datasets import dataset_info
from zoo.errors import ZooError, excerpt

UNKNOWN = "unknown"
NO_PARENT = "no parent"  # "none" would read as: no terms, do as you like

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
    """Raise ZooError unless the terms of the parent are stated if, and only if, there is a parent."""
    if parent is None and licences.parent != NO_PARENT:
        said = excerpt(licences.parent)
        raise ZooError(f"licences: parent is {said}, but the card names no parent; write {NO_PARENT!r}")
    if parent is not None and licences.parent == NO_PARENT:
        raise ZooError(
            f"licences: parent is {NO_PARENT!r}, but the card's parent is {parent}; "
            f"write the terms of its weights, or {UNKNOWN!r}"
        )


def licences_of_trained(dataset: str, parent: str = NO_PARENT) -> Licences:
    """The licences of weights that this package trained on a data set.

    parent  terms of the weights that training began from

    Weights that were learnt from other people's data are stated to inherit the terms of the data.

    Raises:
        ZooError: no data set of that name is known.
    """
    data = dataset_info(dataset)
    weights = data.weights_terms or f"as the data: {data.terms}"
    return Licences(code="Apache-2.0", weights=weights, data=data.terms, parent=parent)
