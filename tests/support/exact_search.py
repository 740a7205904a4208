"""The search in which all samples both choose and judge, and a group keeps any number of neurons."""

from __future__ import annotations

from typing import Any

from zoo.prune import Options, Search

EXACT = Search(holdout=0.0, round_to=1)


def exact(**options: Any) -> Options:
    """Options with this search: where a test knows the right widths, or counts samples, of all."""
    return Options(search=EXACT, **options)
