"""Files and folders on the command line: a ``~`` is the home folder, in ``--out=~/zoo`` too, and an empty one none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.errors import ZooError
from zoo.utils import expand_path


class _Given(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(expand_path(value), param, ctx)
        except ZooError as error:
            self.fail(str(error), param, ctx)


PATH = _Given(path_type=Path)
FILE = _Given(dir_okay=False, path_type=Path)
FOLDER = _Given(file_okay=False, path_type=Path)
