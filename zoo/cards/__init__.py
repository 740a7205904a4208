"""Cards: the JSON record of a checkpoint and of all that was measured of it. Imports no torch."""

from zoo.cards.accuracy import Accuracy, paired, wilson
from zoo.cards.card import Card, File, Forward, Value
from zoo.cards.licences import NO_PARENT, OF_WHAT, UNKNOWN, of_training
from zoo.cards.names import check_name_text, parse_name, resolve_name

__all__ = [
    "NO_PARENT",
    "OF_WHAT",
    "UNKNOWN",
    "Accuracy",
    "Card",
    "File",
    "Forward",
    "Value",
    "check_name_text",
    "of_training",
    "paired",
    "parse_name",
    "resolve_name",
    "wilson",
]
