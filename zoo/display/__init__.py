"""Cards as text and tables, and the filters of ``zoo list``. Imports no torch."""

from zoo.display.card_text import card_page, card_table, in_families
from zoo.display.columns import COLUMNS, DEFAULT_COLUMNS, parse_columns
from zoo.display.format import (
    card_row,
    comparison_row,
    comparison_table,
    interval,
    percent,
    quantity,
    speedup,
    table,
    timing_setup,
)
from zoo.display.query import Query

__all__ = [
    "COLUMNS", "DEFAULT_COLUMNS", "Query", "card_page", "card_row", "card_table", "comparison_row", "comparison_table",
    "in_families", "interval", "parse_columns", "percent", "quantity", "speedup", "table", "timing_setup",
]  # fmt: skip
