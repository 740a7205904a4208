"""Cards: the JSON record of a checkpoint and of all that was measured of it. Imports no torch."""

from zoo.cards.accuracy import Accuracy, paired_difference_ci, wilson_interval
from zoo.cards.card import MAX_CARD, MAX_CLASS_NAMES, MAX_CLASSES, Card, File, Forward, Value
from zoo.cards.licences import LICENCE_TITLES, NO_PARENT, UNKNOWN, Licences, licences_of_trained
from zoo.cards.names import (
    MAX_NAME_LENGTH,
    check_name_text,
    find_name,
    name_stem,
    parse_name,
    resolve_name,
    unknown_name,
)

__all__ = [
    "LICENCE_TITLES", "MAX_CARD", "MAX_CLASSES", "MAX_CLASS_NAMES", "MAX_NAME_LENGTH", "NO_PARENT", "UNKNOWN",
    "Accuracy", "Card", "File", "Forward", "Licences", "Value", "check_name_text", "find_name", "licences_of_trained",
    "name_stem", "paired_difference_ci", "parse_name", "resolve_name", "unknown_name", "wilson_interval",
]  # fmt: skip
