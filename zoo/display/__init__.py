"""Cards as text and tables, and the filters of ``zoo list``. Imports no torch."""

from zoo.display.card_text import card_page, card_table
from zoo.display.columns import COLUMNS, USUAL, parse_columns
from zoo.display.format import card_row, circumstances, comparison, interval, percent, quantity, row, speedup, table
from zoo.display.query import Query

__all__ = [
    "COLUMNS",
    "USUAL",
    "Query",
    "card_page",
    "card_row",
    "card_table",
    "circumstances",
    "comparison",
    "interval",
    "parse_columns",
    "percent",
    "quantity",
    "row",
    "speedup",
    "table",
]
