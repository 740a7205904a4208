"""The options of `zoo list`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from zoo.display import COLUMNS, USUAL

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_COUNT = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]{1,2})?|\.[0-9]+) ?([kmg]?)", re.IGNORECASE)


def count(text: str) -> float:
    """A count as people write it: 300k, 1.5M, 1.2G, or a plain number.

    Raises:
        click.BadParameter: the text is none.
    """
    found = _COUNT.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is not a count: write 300k, 1.5M, 1.2G or a plain number")
    return float(found[1]) * _UNITS[found[2].lower()]


_OPTIONS = (
    click.option("--arch", metavar="PATTERN", help="The network, as dgcnn or 'mobilenet*'."),
    click.option("--dataset", metavar="PATTERN", help="The data set it was trained on."),
    click.option("--task", metavar="PATTERN", help="What it is for, its beginning at least: point or image."),
    click.option("--min-acc", type=float, metavar="PERCENT", help="Accuracy, at least: 84.5, or up to 1 a fraction."),
    click.option("--max-params", type=count, metavar="COUNT", help="Parameters, at most: 300k, 1.5M."),
    click.option("--max-macs", type=count, metavar="COUNT", help="MACs, at most: 300M, 1.2G."),
    click.option("--max-ms", type=float, metavar="MS", help="Measured forward time on a GPU in milliseconds, at most."),
    click.option("--device", metavar="PATTERN", help="Timed on such a device: cpu, cuda, '*H200*'. No other counts."),
    click.option("--parent", metavar="PATTERN", help="The entry it was made from."),
    click.option("--licence", "--license", metavar="PATTERN", help="Of code, weights, data or parent: 'apache*'."),
    click.option("--sort", metavar="COLUMN", help="Order by a column, as accuracy; -accuracy: the greatest first."),
    click.option("--columns", metavar="NAMES", help="What to show, with commas between: name,macs,ms."),
    click.option("--mirror", multiple=True, help="List this mirror's entries too; may be repeated."),
    click.option("--json", "as_json", is_flag=True, help="Print the cards as a JSON list."),
)
EPILOG = f"Columns: {', '.join(COLUMNS)}. Shown unless chosen: {', '.join(USUAL)}."


def list_options(function: F) -> F:
    """Give a command all of them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
