"""What the shell completes: the names of entries on this machine."""

from __future__ import annotations

import logging

import click

from zoo import store
from zoo.cards import parse_name
from zoo.errors import ZooError


def entry_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names that begin so, with their data set once a part of it is typed or where the name alone is not enough."""
    logging.disable()  # a broken card is said when a command runs, not while somebody types
    try:
        known = store.list_models()
    except ZooError:
        return []
    finally:
        logging.disable(logging.NOTSET)
    stems = {parse_name(name).stem for name in known}
    return sorted({name for name in (*known, *stems) if name.startswith(incomplete)})
