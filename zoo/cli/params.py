"""Values on the command line: paths, in which ``~`` is the home folder, and names, which a shell completes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import click

from zoo import store
from zoo.cards import parse_name
from zoo.errors import ZooError
from zoo.transfer import local_path

F = TypeVar("F", bound=Callable[..., Any])


class _ExpandedPath(click.Path):
    """A path with its ``~`` expanded, in ``--out=~/zoo`` too, where the shell leaves it.

    An empty one is refused, and an address.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(local_path(value), param, ctx)
        except ZooError as error:
            self.fail(str(error), param, ctx)


PATH = _ExpandedPath(path_type=Path)
FILE = _ExpandedPath(dir_okay=False, path_type=Path)
FOLDER = _ExpandedPath(file_okay=False, path_type=Path)


def mirror_option(text: str) -> Callable[[F], Callable[..., Any]]:
    """The option --mirror with this help, and --verify-with, for all that the command takes from mirrors."""

    def add(function: F) -> Callable[..., Any]:
        @functools.wraps(function)
        def verified(*args: Any, verify_with: str | None, **options: Any) -> Any:
            with nullcontext() if verify_with is None else store.verifying_with(verify_with):
                return function(*args, **options)

        key = "Take only what this minisign key has signed [ZOO_VERIFY_WITH]."
        return click.option("--mirror", multiple=True, help=text)(
            click.option("--verify-with", metavar="KEY", help=key)(verified)
        )

    return add


def entry_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For the shell to complete: names of entries on this machine that begin so, with and without their data sets."""
    return _completed(incomplete, lambda: store.list_models(f"{incomplete}*"))


def user_entry_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The same for the user's own entries."""
    return _completed(incomplete, store.user_entry_names)


def _completed(incomplete: str, list_names: Callable[[], Sequence[str]]) -> list[str]:
    logging.disable()  # the warning about a broken card would disturb the command line that is being typed
    try:
        names = list_names()
    except ZooError:
        return []
    finally:
        logging.disable(logging.NOTSET)
    stems = {parse_name(name).stem for name in names}
    return sorted({name for name in (*names, *stems) if name.startswith(incomplete)})
