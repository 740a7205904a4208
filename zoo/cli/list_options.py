"""The options of `zoo list`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from zoo.cli.params import mirror_option
from zoo.display import COLUMNS, DEFAULT_COLUMNS

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_COUNT = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:e[0-9]{1,2})?|\.[0-9]+) ?([kmg]?)", re.IGNORECASE)


def count(text: str) -> float:
    """The number in a text like 300k, 1.5M, 1.2G or 300000.

    Raises:
        click.BadParameter: the text has another form.
    """
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a count: write 300k, 1.5M, 1.2G or a plain number")
    return float(match[1]) * _UNITS[match[2].lower()]


_OPTIONS = (
    click.option("--arch", metavar="PATTERN", help="The network, as dgcnn or 'mobilenet*'."),
    click.option("--dataset", metavar="PATTERN", help="The data set it was trained on."),
    click.option("--task", metavar="PATTERN", help="What it is for: point or image (a beginning is enough)."),
    click.option("--min-acc", type=float, metavar="PERCENT", help="Smallest accuracy: 84.5, or as a fraction 0.845."),
    click.option("--max-params", type=count, metavar="COUNT", help="Largest number of parameters: 300k, 1.5M."),
    click.option("--max-macs", type=count, metavar="COUNT", help="Largest number of MACs: 300M, 1.2G."),
    click.option("--max-ms", type=float, metavar="MS", help="Largest measured forward time on a GPU, in milliseconds."),
    click.option("--device", metavar="PATTERN", help="Only timings on such a device: cpu, cuda, '*H200*'."),
    click.option("--parent", metavar="PATTERN", help="The entry it was made from."),
    click.option("--licence", "--license", metavar="PATTERN", help="Licence of code, weights, data or parent."),
    click.option("--sort", metavar="COLUMN", help="Sort by a column, such as accuracy; -accuracy: descending."),
    click.option("--columns", metavar="NAMES", help="Columns to show: name,macs,ms."),
    mirror_option("List this mirror's entries too; may be repeated."),
    click.option("--json", "as_json", is_flag=True, help="Print the cards as a JSON list."),
)
EPILOG = f"Columns: {', '.join(COLUMNS)}. Shown unless chosen: {', '.join(DEFAULT_COLUMNS)}."


def list_options(function: F) -> F:
    """Decorator that adds all options of `zoo list` to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
