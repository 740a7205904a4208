"""A user's own networks, data sets and criteria: modules that register them when they are imported."""

from __future__ import annotations

import os
import sys
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

from zoo.errors import ZooError

GROUP = "pruned_zoo.plugins"
VARIABLE = "ZOO_PLUGINS"


@cache
def load_plugins() -> None:
    """Import every plugin, once: the entry points of group `pruned_zoo.plugins` of installed packages, and the modules
    or files (*.py) that the environment variable ZOO_PLUGINS names, with commas between.

    Raises ZooError for a plugin that cannot be imported.
    """
    from importlib.metadata import entry_points  # a third of the time that `zoo list` takes to start

    named = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    try:
        points = list(entry_points(group=GROUP))
    except Exception as error:  # of a file that an installer of packages did not write
        reason = f"{type(error).__name__}: {error}"
        raise ZooError(f"an installed package has a list of entry points that cannot be read: {reason}") from error
    plugins = [(f"plugin {point.name} ({point.value})", point.load) for point in points]
    plugins += [(f"plugin {name} of {VARIABLE}", partial(_import, name)) for name in named]
    for title, load in plugins:
        try:
            load()
        except ZooError as error:
            raise ZooError(f"{title}: {error}") from error
        except (Exception, SystemExit) as error:  # a plugin may raise anything
            raise ZooError(f"{title} cannot be imported: {type(error).__name__}: {error}") from error


def _import(name: str) -> ModuleType:
    """A module by its name or by its file; the folder of a file is searched for what that file imports."""
    if name.endswith(".py"):
        file = Path(name).expanduser().resolve(strict=True)
        sys.path.insert(0, str(file.parent))
        name = file.stem
    return import_module(name)
